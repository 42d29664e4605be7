"""The KFP component of GRPO."""

from kfp import dsl

from omnistage.kubeflow import (
    BaseModel,
    DatasetTarball,
    LoRAAdapter,
    RewrittenJSONL,
    SFTCheckpoint,
)


@dsl.component(base_image="python", install_kfp_package=False)
def grpo(
    config: str,
    runtime: str,
    store: str,
    data: dsl.Input[DatasetTarball],
    records: dsl.Input[RewrittenJSONL],
    model: dsl.Input[BaseModel],
    sft: dsl.Input[SFTCheckpoint],
    adapter: dsl.Output[LoRAAdapter],
):
    """Train a LoRA adapter with GRPO on the RL records.

    Args:
        config: GRPOSettings as JSON.
        runtime: Runtime as JSON.
        store: URI of the store.
        data: The data set, for its media.
        records: Canonical records.
        model: The base model.
        sft: The fine-tuned model to start from.
        adapter: The adapter, with reward curves and completions.
    """
    from omnistage.kubeflow import run_stage

    inputs = {"data": data, "records": records, "model": model, "sft": sft}
    run_stage("components.grpo.stage:STAGE", config, store, adapter, inputs, runtime)
