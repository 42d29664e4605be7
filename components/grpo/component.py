"""The KFP component of GRPO."""

from typing import Optional

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
    adapter: dsl.Output[types.LoRAAdapter],
    sft: Optional[dsl.Input[types.SFTCheckpoint]] = None,  # noqa: UP045 - KFP reads this form only
    node_pool: str = "",
    queue: str = "",
    nodes: int = 0,
    gpus_per_node: int = 0,
):
    """Train a LoRA adapter with GRPO on the RL records.

    Args:
        config: GRPOSettings as JSON.
        runtime: TaskRuntime as JSON.
        store: URI of the store.
        data: The data set, for its media.
        records: Canonical records.
        model: The base model.
        adapter: The adapter, with reward curves and completions.
        sft: The fine-tuned model, if GRPO starts from it.
        node_pool: Node pool of the job; empty for the recipe's.
        queue: Kueue LocalQueue of the job; empty for the recipe's.
        nodes: Pods of the job; 0 for the recipe's.
        gpus_per_node: GPUs of a pod; 0 for the recipe's.
    """
    from components.grpo.stage import STAGE
    from omnistage.task.kfp_body import run_stage

    inputs = {"data": data, "records": records, "model": model, "sft": sft}
    at = {"node_pool": node_pool, "queue": queue, "nodes": nodes, "gpus_per_node": gpus_per_node}
    run_stage(STAGE, config, store, adapter, inputs, runtime, at)
