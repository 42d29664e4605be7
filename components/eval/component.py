"""The KFP component of the evaluation."""

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
    sft: dsl.Input[types.SFTCheckpoint],
    adapter: dsl.Input[types.LoRAAdapter],
    report: dsl.Output[types.EvalReport],
    html: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    node_pool: str = "",
    queue: str = "",
    gpus_per_node: int = 0,
):
    """Judge the test records with the base, the SFT and the GRPO model, on one node.

    Args:
        config: EvalSettings as JSON.
        runtime: TaskRuntime as JSON.
        adapter: The adapter that GRPO trained.
        report: Judgements, and the report as HTML and JSON.
        html: The report, for the KFP pages.
        metrics: Accuracy of each model with its interval.
        node_pool: Node pool; empty, like the two below when 0 or empty, for the recipe's.
    """
    from omnistage.task.kfp_body import publish_report, run_stage

    inputs = {"data": data, "records": records, "model": model, "sft": sft, "grpo": adapter}
    at = {"node_pool": node_pool, "queue": queue, "gpus_per_node": gpus_per_node}
    stage = "components.eval.stage:STAGE"
    made = run_stage(stage, config, store, report, inputs, runtime, at)
    publish_report(made, html, metrics)
