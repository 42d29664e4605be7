"""Settings that supervised fine-tuning and GRPO have in common."""

from typing import Any, Literal

from pydantic import Field

from omnistage.errors import InputError
from omnistage.settings import Ask, Settings, operational
from omnistage.swift.media import MediaSettings
from omnistage.torchrun.job import gpu_count

Dtype = Literal["bfloat16", "float16", "float32"]


class TrainingSettings(Settings):
    """What the trainer is told; the defaults are those of OmniCritic-R1's scripts."""

    tuner: Literal["full", "lora"] = Field(
        default="lora", description="Train all weights, or a LoRA adapter."
    )
    on_adapter: Literal["continue", "add"] = Field(
        default="continue",
        description="Of a step that starts from an adapter: train that adapter further, or merge "
        "it into the weights and train a new one on top. All weights are trained on the merged "
        "model in any case.",
    )
    lora_rank: int = Field(default=8, ge=1, description="Rank r of the LoRA matrices.")
    lora_alpha: int = Field(default=32, ge=1, description="LoRA scale α; the update is α/r·BA.")
    lora_dropout: float = Field(
        default=0.05, ge=0, lt=1, description="Dropout on the LoRA branch, a share."
    )
    target_modules: list[str] = Field(
        default=["all-linear"], description="Modules that get a LoRA adapter."
    )
    freeze_vit: bool = Field(
        default=True, description="Leave the vision and the audio encoder as they are."
    )
    freeze_aligner: bool = Field(
        default=True, description="Leave the projections from the encoders as they are."
    )
    epochs: float = Field(default=1, gt=0, description="Passes over the training records.")
    max_steps: int | None = Field(
        default=None, ge=1, description="Optimizer steps after which to stop, before the epochs."
    )
    batch_size: int = Field(
        default=16, ge=1, description="Samples an optimizer step, over all processes."
    )
    per_device_batch_size: int = Field(
        default=1,
        ge=1,
        description="Samples a process takes at once; the rest of the batch is accumulated.",
        json_schema_extra=operational(),
    )
    learning_rate: float = Field(default=1e-5, gt=0, description="Peak learning rate of AdamW.")
    lr_scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        default="cosine", description="Course of the learning rate."
    )
    warmup_ratio: float = Field(
        default=0.05, ge=0, lt=1, description="Share of the steps in which the rate rises."
    )
    weight_decay: float = Field(default=0.1, ge=0, description="AdamW's weight decay.")
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="Gradients are scaled down to this norm."
    )
    max_length: int = Field(
        default=3072, ge=1, description="Most tokens of a sample, media tokens included."
    )
    dtype: Dtype = Field(default="bfloat16", description="Type of the weights in training.")
    attn_impl: Literal["sdpa", "eager", "flash_attn"] = Field(
        default="sdpa", description="Implementation of attention."
    )
    gradient_checkpointing: bool = Field(
        default=True,
        description="Recompute activations in the backward pass to save memory.",
        json_schema_extra=operational(),
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        default=2,
        description="DeepSpeed ZeRO stage on GPUs, 0 for none; audio training wants at most 2.",
        json_schema_extra=operational(),
    )
    media: MediaSettings = Field(default=MediaSettings(), description="Bounds on decoded media.")
    seed: int = Field(default=42, ge=0, description="Of the data order, LoRA's start and sampling.")
    save_steps: int = Field(
        default=100,
        ge=1,
        description="Steps between two checkpoints; a killed run goes on from the last.",
        json_schema_extra=operational(),
    )
    save_total_limit: int = Field(
        default=2, ge=1, description="Checkpoints kept.", json_schema_extra=operational()
    )
    logging_steps: int = Field(
        default=5, ge=1, description="Steps between two logged.", json_schema_extra=operational()
    )
    workers: int = Field(
        default=2,
        ge=0,
        description="Processes that decode media for each training process.",
        json_schema_extra=operational(),
    )
    report_to: list[Literal["tensorboard", "wandb", "mlflow", "swanlab"]] = Field(
        default=["tensorboard"],
        description="Trackers; their keys come from the environment.",
        json_schema_extra=operational(),
    )
    swift_arguments: dict[str, Any] = Field(
        default={},
        description="Further arguments of ms-swift by their own names, checked before the start.",
    )

    def asks(self) -> list[Ask]:
        """Return the arguments that are handed on to ms-swift as they are."""
        return [Ask("trainer_arguments", n, f"swift_arguments.{n}") for n in self.swift_arguments]


def process_count(wanted: int | None) -> int:
    """Return the processes of a stage: what is asked for, else one a GPU, else one."""
    return wanted or max(1, gpu_count())


def split_batch(batch_size: int, per_device: int, processes: int, where: str) -> tuple[int, int]:
    """Return the batch of a process and the accumulation that make up the global batch.

    Args:
        batch_size: Samples an optimizer step.
        per_device: Most samples that a process takes at once.
        processes: In all.
        where: The recipe section named in the error.

    Raises:
        InputError: If the batch does not divide by the processes.
    """
    if batch_size % processes:
        raise InputError(
            f"{where}.batch_size: {batch_size} does not divide by {processes} processes; choose a "
            f"multiple, or other processes: {where}.nproc_per_node on one machine, "
            "cluster.nodes and cluster.gpus_per_node on a cluster"
        )
    share = batch_size // processes
    device = max(d for d in range(1, min(per_device, share) + 1) if share % d == 0)
    return device, share // device
