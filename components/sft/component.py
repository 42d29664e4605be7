"""The KFP component of supervised fine-tuning."""

from kfp import dsl

from omnistage.kubeflow import BaseModel, DatasetTarball, RewrittenJSONL, SFTCheckpoint


@dsl.component(base_image="python", install_kfp_package=False)
def sft(
    config: str,
    runtime: str,
    store: str,
    data: dsl.Input[DatasetTarball],
    records: dsl.Input[RewrittenJSONL],
    model: dsl.Input[BaseModel],
    checkpoint: dsl.Output[SFTCheckpoint],
):
    """Fine-tune the base model on the SFT records.

    Args:
        config: SFTSettings as JSON.
        runtime: Runtime as JSON.
        store: URI of the store.
        data: The data set, for its media.
        records: Canonical records.
        model: The base model.
        checkpoint: The fine-tuned model or adapter, with its logs.
    """
    from omnistage.kubeflow import run_stage

    inputs = {"data": data, "records": records, "model": model}
    run_stage("components.sft.stage:STAGE", config, store, checkpoint, inputs, runtime)
