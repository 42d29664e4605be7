"""The KFP component of the evaluation."""

from kfp import dsl

from omnistage.kubeflow import (
    BaseModel,
    DatasetTarball,
    EvalReport,
    LoRAAdapter,
    RewrittenJSONL,
    SFTCheckpoint,
)


@dsl.component(base_image="python", install_kfp_package=False)
def evaluate(
    config: str,
    runtime: str,
    store: str,
    data: dsl.Input[DatasetTarball],
    records: dsl.Input[RewrittenJSONL],
    model: dsl.Input[BaseModel],
    sft: dsl.Input[SFTCheckpoint],
    adapter: dsl.Input[LoRAAdapter],
    report: dsl.Output[EvalReport],
    html: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
):
    """Judge the test records with the base, the SFT and the GRPO model.

    Args:
        config: EvalSettings as JSON.
        runtime: Runtime as JSON.
        store: URI of the store.
        data: The data set, for its media.
        records: Canonical records.
        model: The base model.
        sft: The fine-tuned model.
        adapter: The adapter that GRPO trained.
        report: Judgements, and the report as HTML and JSON.
        html: The report, for the KFP pages.
        metrics: Accuracy of each model with its interval.
    """
    from omnistage.kubeflow import publish_report, run_stage

    inputs = {"data": data, "records": records, "model": model, "sft": sft, "grpo": adapter}
    made = run_stage("components.eval.stage:STAGE", config, store, report, inputs, runtime)
    publish_report(made, html, metrics)
