"""Settings of GRPO."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from components.grpo.watch.watch import WatchSettings
from omnistage.rewards import REWARDS
from omnistage.rewards.own import with_code
from omnistage.rewards.served.client import JudgeSettings
from omnistage.settings import Ask, Settings, added, operational
from omnistage.swift.settings import TrainingSettings

_EPSILON = 0.2
_SCALES = {"rloo": "none", "reinforce_plus_plus": "batch"}
"""Estimator to how its paper scales rewards; grpo is the setting's default."""


class VLLMSettings(Settings):
    """Rollout by vLLM on the training GPUs themselves (colocated)."""

    gpu_memory_utilization: float = Field(
        default=0.5, gt=0, lt=1, description="Share of a GPU's memory that vLLM may take."
    )
    sleep_level: Literal[0, 1, 2] = Field(
        default=1, description="What vLLM frees while the trainer works: nothing, cache, weights."
    )
    tensor_parallel_size: int = Field(default=1, ge=1, description="GPUs a vLLM engine spans.")


class DifficultySettings(Settings):
    """Which prompts are worth training on: the model that the step starts from is asked first."""

    reward: str = Field(
        description="Of the step's rewards, the one whose mean over the answers to a prompt is its "
        "accuracy."
    )
    samples: int = Field(
        default=4, ge=1, description="Answers to each prompt, sampled as in training."
    )
    above: float = Field(default=0.0, description="Prompts are kept whose accuracy is above this,")
    below: float = Field(default=0.75, description="and below this.")

    @model_validator(mode="after")
    def _is_a_band(self) -> "DifficultySettings":
        if self.above >= self.below:
            raise ValueError(f"nothing is above {self.above} and below {self.below}")
        return self


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
        default="group",
        description="Divide advantages by the group's or the batch's spread; by default what the "
        "estimator's paper does: group for grpo, none for rloo, batch for reinforce_plus_plus. "
        "Dr. GRPO is loss_type dr_grpo with none.",
    )
    kl_in_reward: bool | None = Field(
        default=None,
        description="Take the KL term off the rewards instead of adding it to the loss; by default "
        "not for grpo, but for rloo and reinforce_plus_plus. The logged reward is then less it.",
        json_schema_extra=added(),
    )
    importance_sampling_level: Literal["token", "sequence", "sequence_token"] = Field(
        default="token",
        description="What a probability ratio is of: a token, or a completion (GSPO: sequence).",
        json_schema_extra=added(),
    )
    epsilon: float = Field(
        default=_EPSILON,
        gt=0,
        lt=1,
        description="How far below 1 a ratio counts; GSPO's paper has 3e-4.",
        json_schema_extra=added(),
    )
    epsilon_high: float | None = Field(
        default=None,
        gt=0,
        description="How far above 1 a ratio counts; by default as epsilon. DAPO's clip-higher is "
        "0.28, GSPO's paper has 4e-4.",
        json_schema_extra=added(),
    )
    dynamic_sample: bool = Field(
        default=False, description="Sample again where a group's rewards have no spread (DAPO)."
    )
    max_resample_times: int = Field(
        default=3,
        ge=1,
        description="With dynamic_sample, after how many draws the first batch is taken as it is.",
        json_schema_extra=added(),
    )
    soft_overlong: int | None = Field(
        default=None,
        ge=1,
        description="Tokens before max_completion_length over which a completion's reward falls "
        "by up to 1 (DAPO's soft over-long punishment).",
        json_schema_extra=added(),
    )
    overlong_filter: bool = Field(
        default=False, description="Leave truncated completions out of the loss."
    )
    difficulty: DifficultySettings | None = Field(
        default=None,
        description="Train only on prompts of some difficulty; what the model answered is kept in "
        "the store.",
        json_schema_extra=added(),
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

    @model_validator(mode="before")
    @classmethod
    def _estimators_own_scale(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        scale = _SCALES.get(str(values.get("advantage_estimator")))
        return {"scale_rewards": scale, **values} if scale else values

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
    def _difficulty_by_a_reward_of_the_step(self) -> "GRPOSettings":
        if self.difficulty and self.difficulty.reward not in self.reward_weights:
            raise ValueError(
                f"difficulty.reward {self.difficulty.reward!r} is no reward of this step: "
                f"{', '.join(self.reward_weights)}"
            )
        return self

    @model_validator(mode="after")
    def _whole_groups(self) -> "GRPOSettings":
        if self.batch_size % self.num_generations:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide by num_generations "
                f"{self.num_generations}: a group would be cut"
            )
        return self

    @model_validator(mode="after")
    def _room_before_the_limit(self) -> "GRPOSettings":
        if self.soft_overlong and self.soft_overlong >= self.max_completion_length:
            raise ValueError(
                f"soft_overlong {self.soft_overlong} leaves no completion of "
                f"max_completion_length {self.max_completion_length} unpunished"
            )
        return self


def idle_settings(config: GRPOSettings) -> list[str]:
    """Return what settings say that cannot act, or not always; a sentence each."""
    own = config.swift_arguments
    found = []
    on_policy = config.num_iterations == 1 and not own.keys() & {
        "steps_per_generation",
        "generation_batch_size",
    }
    if on_policy and (config.epsilon_high is not None or config.epsilon != _EPSILON):
        found.append(
            "epsilon and epsilon_high cannot act: with num_iterations 1 a completion is used once, "
            "by the policy that sampled it, so that no ratio leaves 1"
        )
    if config.dynamic_sample:
        found.append(
            f"dynamic_sample: after {config.max_resample_times} draws without enough groups that "
            "have a spread, the first batch is trained on as it is"
        )
    if config.overlong_filter and config.beta and not config.kl_in_reward:
        found.append(
            "overlong_filter: a batch of which every completion is cut gives no KL term but NaN; "
            "raise max_completion_length, or set beta to 0"
        )
    if config.kl_in_reward and not config.beta:
        found.append("kl_in_reward cannot act: beta is 0")
    if config.loss_type == "dr_grpo" and config.scale_rewards != "none":
        found.append(
            f"loss_type dr_grpo with scale_rewards {config.scale_rewards}: Dr. GRPO does not "
            "divide by a spread; set scale_rewards to none"
        )
    return found
