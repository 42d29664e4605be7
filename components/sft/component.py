"""The KFP component of supervised fine-tuning."""

from kfp import dsl

from omnistage.kubeflow import types


@dsl.component(base_image="python", install_kfp_package=False)
def sft(
    config: str,
    runtime: str,
    store: str,
    data: dsl.Input[types.DatasetTarball],
    records: dsl.Input[types.RewrittenJSONL],
    model: dsl.Input[types.BaseModel],
    checkpoint: dsl.Output[types.SFTCheckpoint],
    node_pool: str = "",
    queue: str = "",
    nodes: int = 0,
    gpus_per_node: int = 0,
):
    """Fine-tune the base model on the SFT records.

    Args:
        config: SFTSettings as JSON.
        runtime: TaskRuntime as JSON.
        store: URI of the store.
        data: The data set, for its media.
        records: Canonical records.
        model: The base model.
        checkpoint: The fine-tuned model or adapter, with its logs.
        node_pool: Node pool of the job; empty for the recipe's.
        queue: Kueue LocalQueue of the job; empty for the recipe's.
        nodes: Pods of the job; 0 for the recipe's.
        gpus_per_node: GPUs of a pod; 0 for the recipe's.
    """
    from components.sft.stage import STAGE
    from omnistage.task.kfp_body import run_stage

    inputs = {"data": data, "records": records, "model": model}
    at = {"node_pool": node_pool, "queue": queue, "nodes": nodes, "gpus_per_node": gpus_per_node}
    run_stage(STAGE, config, store, checkpoint, inputs, runtime, at)
