"""Settings of GRPO."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from components.grpo.watch.watch import WatchSettings
from omnistage.rewards import REWARDS
from omnistage.rewards.own import with_code
from omnistage.rewards.served.client import JudgeSettings
from omnistage.settings import Ask, Settings, operational
from omnistage.swift.settings import TrainingSettings


class VLLMSettings(Settings):
    """Rollout by vLLM on the training GPUs themselves (colocated)."""

    gpu_memory_utilization: float = Field(
        default=0.5, gt=0, lt=1, description="Share of a GPU's memory that vLLM may take."
    )
    sleep_level: Literal[0, 1, 2] = Field(
        default=1, description="What vLLM frees while the trainer works: nothing, cache, weights."
    )
    tensor_parallel_size: int = Field(default=1, ge=1, description="GPUs a vLLM engine spans.")


class GRPOSettings(TrainingSettings):
    """``swift rlhf --rlhf_type grpo``; the defaults are OmniCritic-R1's."""

    max_length: int = Field(
        default=8192, ge=1, description="Most tokens of a prompt, media tokens included."
    )
    batch_size: int = Field(
        default=16, ge=1, description="Completions an optimizer step, over all processes."
    )
    num_generations: int = Field(
        default=4, ge=2, description="Completions sampled for a prompt: the group."
    )
    max_completion_length: int = Field(
        default=2048, ge=1, description="Most tokens of a completion; too few pin the format reward"
    )
    temperature: float = Field(default=1.0, gt=0, description="Sampling temperature.")
    top_p: float = Field(default=0.99, gt=0, le=1, description="Nucleus sampling, a share.")
    top_k: int = Field(default=50, description="Sample among the k likeliest tokens; -1 for all.")
    judge: JudgeSettings = Field(
        default=JudgeSettings(), description="How rewards that ask a server ask it."
    )
    reward_code: dict[str, str] = Field(
        default={}, description="Text of the files of your own rewards; filled in from them."
    )
    reward_weights: dict[str, float] = Field(
        default={"mm_format": 0.4, "mm_content": 0.4, "mm_rubric": 0.2},
        min_length=1,
        description="Reward name, or path.py:function for one of your own, to its weight.",
    )
    beta: float = Field(
        default=0.04, ge=0, description="Weight of the KL term; 0 needs no reference"
    )
    num_iterations: int = Field(
        default=1, ge=1, description="Optimizer passes over a batch of completions (μ)."
    )
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo"] = Field(
        default="grpo", description="How token losses are averaged."
    )
    advantage_estimator: Literal["grpo", "rloo", "reinforce_plus_plus"] = Field(
        default="grpo", description="How advantages come from a group's rewards."
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        default="group", description="Divide advantages by the group's or the batch's spread."
    )
    dynamic_sample: bool = Field(
        default=False, description="Sample again where a group's rewards have no spread (DAPO)."
    )
    overlong_filter: bool = Field(
        default=False, description="Leave truncated completions out of the loss."
    )
    vllm: VLLMSettings | None = Field(
        default=None, description="Rollout by vLLM; without it by transformers."
    )
    preflight: bool = Field(
        default=True,
        description="Check prompts, media counts, parity and rewards on a few records first.",
        json_schema_extra=operational(),
    )

    watch: WatchSettings = Field(
        default=WatchSettings(),
        description="When to stop a run that cannot learn.",
        json_schema_extra=operational(),
    )

    def asks(self) -> list[Ask]:
        """Return also the rewards that are the recipe's own."""
        own = [Ask("own_rewards", name, f"reward_weights.{name}") for name in self.reward_code]
        return [*super().asks(), *own]

    @model_validator(mode="before")
    @classmethod
    def _own_rewards(cls, values: Any) -> Any:
        return with_code(values)

    @field_validator("reward_weights")
    @classmethod
    def _known_rewards(cls, weights: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        unknown = sorted(set(weights) - set(REWARDS) - set(info.data.get("reward_code", ())))
        if unknown:
            raise ValueError(f"no reward {', '.join(unknown)}; there are {', '.join(REWARDS)}")
        if not any(weights.values()):
            raise ValueError("every weight is 0: nothing would be learned")
        return weights

    @model_validator(mode="after")
    def _whole_groups(self) -> "GRPOSettings":
        if self.batch_size % self.num_generations:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide by num_generations "
                f"{self.num_generations}: a group would be cut"
            )
        return self
