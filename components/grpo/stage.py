"""GRPO: SFT checkpoint and RL records in, LoRA adapter and reward curves out."""

from pathlib import Path
from typing import Any

from components.grpo.config import GRPOSettings
from components.grpo.rewards import METRIC_NAMES
from omnistage.errors import InputError
from omnistage.materialize import media_root
from omnistage.stage import Context, Result, Stage
from omnistage.swift.checkpoints import copy_model
from omnistage.swift.train import LIBRARIES, keep_logs, train
from omnistage.training_data import write_training_file

PLUGIN = Path(__file__).with_name("plugin.py")


def start_model(context: Context[GRPOSettings]) -> tuple[Path, Path | None]:
    """Return the model folder that GRPO starts from, and the SFT adapter on top, if any.

    Raises:
        InputError: If it is to start from the SFT checkpoint and there is none.
    """
    base = context.folder("model") / "files"
    if context.config.start_from == "base":
        return base, None
    if "sft" not in context.inputs:
        raise InputError("grpo.start_from is 'sft' but there is no SFT checkpoint; set it to base")
    checkpoint = context.folder("sft")
    if (checkpoint / "adapter").is_dir():
        return base, checkpoint / "adapter"
    return checkpoint / "model", None


def grpo_arguments(
    config: GRPOSettings, model: Path, adapter: Path | None, dataset: Path
) -> dict[str, Any]:
    """Return the arguments of ``swift rlhf`` that only GRPO has."""
    vllm = config.vllm
    return {
        "rlhf_type": "grpo",
        "model": str(model),
        "adapters": [str(adapter)] if adapter else None,
        "ref_adapters": [str(adapter)] if adapter and config.beta else None,
        "dataset": [str(dataset)],
        "external_plugins": [str(PLUGIN)],
        "reward_funcs": list(config.reward_weights),
        "reward_weights": list(config.reward_weights.values()),
        "num_generations": config.num_generations,
        "max_completion_length": config.max_completion_length,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "beta": config.beta,
        "num_iterations": config.num_iterations,
        "loss_type": config.loss_type,
        "advantage_estimator": config.advantage_estimator,
        "scale_rewards": config.scale_rewards,
        "dynamic_sample": config.dynamic_sample,
        "overlong_filter": config.overlong_filter,
        "use_vllm": vllm is not None,
        "vllm_mode": "colocate" if vllm else None,
        "vllm_gpu_memory_utilization": vllm.gpu_memory_utilization if vllm else None,
        "vllm_tensor_parallel_size": vllm.tensor_parallel_size if vllm else None,
        "sleep_level": vllm.sleep_level if vllm else None,
        "log_completions": True,
        "remove_unused_columns": False,
    }


def run(context: Context[GRPOSettings]) -> Result:
    """Train the adapter, and keep it with the trainer's logs.

    The artifact has ``adapter/`` and ``logs/`` (curves, completions).

    Raises:
        InputError: If a check before the start fails or a setting does not fit ms-swift.
        StageFailedError: If the training fails, or is stopped because it learns nothing.
    """
    config = context.config
    data = context.inputs["data"]
    root = media_root(context.folder("data"), data.digest, context.store.scratch, context.events)
    dataset = context.work / "rl.jsonl"
    records = write_training_file(
        context.folder("records") / "rl.jsonl", root, dataset, context.events, gold=True
    )
    model, adapter = start_model(context)
    trained = train(
        context,
        "rlhf",
        grpo_arguments(config, model, adapter, dataset),
        config=config,
        figures=("reward", "loss"),
    )
    copy_model(trained.checkpoint, context.out / "adapter")
    keep_logs(trained, context.work, context.out / "logs")
    last = trained.curve[-1]
    return Result(
        counts={"records": records, "steps": last["step"]},
        metadata={
            "start_from": config.start_from,
            "reward": last.get("reward"),
            "rewards": {
                n: last.get(f"rewards/{METRIC_NAMES[n]}/mean") for n in config.reward_weights
            },
            "training_seconds": round(trained.seconds, 3),
            "resumed_from_step": trained.resumed_from,
        },
    )


STAGE = Stage(
    name="grpo",
    kind="LoRAAdapter",
    version=1,
    config=GRPOSettings,
    inputs={
        "data": "DatasetTarball",
        "records": "RewrittenJSONL",
        "model": "BaseModel",
        "sft": "SFTCheckpoint",
    },
    optional=frozenset({"sft"}),
    run=run,
    libraries=LIBRARIES,
)
