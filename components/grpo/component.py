"""The KFP component of GRPO."""

from kfp import dsl

from omnistage.kubeflow import types


@dsl.component(base_image="python", install_kfp_package=False)
def grpo(
    config: str,
    runtime: str,
    store: str,
    data: dsl.Input[types.DatasetTarball],
    records: dsl.Input[types.RewrittenJSONL],
    model: dsl.Input[types.BaseModel],
    sft: dsl.Input[types.SFTCheckpoint],
    adapter: dsl.Output[types.LoRAAdapter],
    node_pool: str = "",
    queue: str = "",
    nodes: int = 0,
    gpus_per_node: int = 0,
):
    """Train a LoRA adapter with GRPO on the RL records.

    Args:
        config: GRPOSettings as JSON.
        runtime: TaskRuntime as JSON.
        data: The data set, for its media.
        records: Canonical records.
        model: The base model.
        sft: The fine-tuned model to start from.
        adapter: The adapter, with reward curves and completions.
        node_pool: Node pool; empty, like the three below when 0 or empty, for the recipe's.
        queue: Kueue LocalQueue.
        nodes: Pods of the job.
        gpus_per_node: GPUs of a pod.
    """
    from omnistage.task.kfp_body import run_stage

    inputs = {"data": data, "records": records, "model": model, "sft": sft}
    at = {"node_pool": node_pool, "queue": queue, "nodes": nodes, "gpus_per_node": gpus_per_node}
    run_stage("components.grpo.stage:STAGE", config, store, adapter, inputs, runtime, at)
