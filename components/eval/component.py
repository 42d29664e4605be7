"""The KFP component of the evaluation."""

from typing import Optional

from kfp import dsl

from omnistage.kubeflow import types


@dsl.component(base_image="python", install_kfp_package=False)
def evaluate(
    config: str,
    runtime: str,
    store: str,
    data: dsl.Input[types.DatasetTarball],
    records: dsl.Input[types.RewrittenJSONL],
    model: dsl.Input[types.BaseModel],
    report: dsl.Output[types.EvalReport],
    html: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    sft: Optional[dsl.Input[types.SFTCheckpoint]] = None,  # noqa: UP045 - KFP reads this form only
    grpo: Optional[dsl.Input[types.LoRAAdapter]] = None,  # noqa: UP045
    node_pool: str = "",
    queue: str = "",
    gpus_per_node: int = 0,
):
    """Judge the test records with the base, the SFT and the GRPO model, on one node.

    Args:
        config: EvalSettings as JSON.
        runtime: TaskRuntime as JSON.
        store: URI of the store.
        data: The data set, for its media.
        records: Canonical records, with a test split.
        model: The base model.
        report: Judgements, and the report as HTML and JSON.
        html: The report, for the KFP pages.
        metrics: Accuracy of each model with its interval.
        sft: The fine-tuned model, if it is evaluated or GRPO started from it.
        grpo: The adapter that GRPO trained, if it is evaluated.
        node_pool: Node pool of the job; empty for the recipe's.
        queue: Kueue LocalQueue of the job; empty for the recipe's.
        gpus_per_node: GPUs of a pod; 0 for the recipe's.
    """
    from components.eval.stage import STAGE
    from omnistage.task.kfp_body import publish_report, run_stage

    inputs = {"data": data, "records": records, "model": model, "sft": sft, "grpo": grpo}
    at = {"node_pool": node_pool, "queue": queue, "gpus_per_node": gpus_per_node}
    made = run_stage(STAGE, config, store, report, inputs, runtime, at)
    publish_report(made, html, metrics)
