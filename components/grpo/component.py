"""The KFP component of GRPO."""

from kfp import dsl

from omnistage import kubeflow


@dsl.component(base_image="python", install_kfp_package=False)
def grpo(
    config: str,
    runtime: str,
    store: str,
    data: dsl.Input[kubeflow.DatasetTarball],
    records: dsl.Input[kubeflow.RewrittenJSONL],
    model: dsl.Input[kubeflow.BaseModel],
    sft: dsl.Input[kubeflow.SFTCheckpoint],
    adapter: dsl.Output[kubeflow.LoRAAdapter],
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
    inputs = {"data": data, "records": records, "model": model, "sft": sft}
    at = {"node_pool": node_pool, "queue": queue, "nodes": nodes, "gpus_per_node": gpus_per_node}
    kubeflow.run_stage("components.grpo.stage:STAGE", config, store, adapter, inputs, runtime, at)
