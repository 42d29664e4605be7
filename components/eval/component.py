"""The KFP component of the evaluation."""

from kfp import dsl

from omnistage import kubeflow


@dsl.component(base_image="python", install_kfp_package=False)
def evaluate(
    config: str,
    runtime: str,
    store: str,
    data: dsl.Input[kubeflow.DatasetTarball],
    records: dsl.Input[kubeflow.RewrittenJSONL],
    model: dsl.Input[kubeflow.BaseModel],
    sft: dsl.Input[kubeflow.SFTCheckpoint],
    adapter: dsl.Input[kubeflow.LoRAAdapter],
    report: dsl.Output[kubeflow.EvalReport],
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
    inputs = {"data": data, "records": records, "model": model, "sft": sft, "grpo": adapter}
    at = {"node_pool": node_pool, "queue": queue, "gpus_per_node": gpus_per_node}
    stage = "components.eval.stage:STAGE"
    made = kubeflow.run_stage(stage, config, store, report, inputs, runtime, at)
    kubeflow.publish_report(made, html, metrics)
