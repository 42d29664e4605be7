"""Settings of the evaluation."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from components.eval.gate import read_rule
from omnistage.rewards import REWARDS
from omnistage.rewards.own import OWN
from omnistage.rewards.served.client import JudgeSettings
from omnistage.settings import Settings, added
from omnistage.swift.media import MediaSettings
from omnistage.swift.settings import Dtype

ProtocolName = Literal[
    "omnistage",
    "lmms_vl_rewardbench",
    "lmms_mm_rewardbench",
    "vlmevalkit_mm_rewardbench",
    "vlmevalkit_choice",
    "videomme_letter",
    "mmau",
    "lmms_rec",
    "r1v_geoqa",
]
"""What :mod:`components.eval.protocols` has; a test holds the two together."""


class EvalSettings(Settings):
    """Ask every model about the held-out records, greedily; each pair to judge in both orders."""

    title: str = Field(
        default="", description="Of the report; the recipe's name where it is not set."
    )
    models: list[str] = Field(
        default=[],
        description="Models to evaluate: `base`, those of `other_models`, and training steps by "
        "their names; by default the base model and every training step before this one.",
    )
    strict: bool = Field(
        default=True,
        description="Whether an answer must have the format that was asked for: <answer> tags, of "
        "a judge the five-key verdict; without it, the answer is looked for in all of the text.",
    )
    ablations: list[Literal["no_sound", "no_picture", "shuffled", "text_only"]] = Field(
        default=[],
        description="Ask again without sound, without picture, with the media of another record, "
        "or with text alone, to measure what a modality contributes; each asks the records that "
        "it changes once more.",
    )
    samples: int = Field(
        default=0,
        ge=0,
        description="Sampled answers to each record beside the greedy one, for pass@k and "
        "self-consistency (majority vote).",
        json_schema_extra=added(),
    )
    sample_temperature: float = Field(
        default=1.0, gt=0, description="Temperature of the samples.", json_schema_extra=added()
    )
    sample_top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Sample only of the most likely tokens that have this probability together.",
        json_schema_extra=added(),
    )
    best_of_n_judge: str = Field(
        default="",
        description="One of `models`, which as a judge picks the best of the samples of every "
        "model in a pairwise knock-out, to stand beside majority vote and random pick.",
        json_schema_extra=added(),
    )
    rotate_options: bool = Field(
        default=False,
        description="Ask records of `choice` again with their options in every other rotation, to "
        "see whether the place of an option decides.",
        json_schema_extra=added(),
    )
    protocols: list[ProtocolName] = Field(
        default=[],
        description="Other protocols to score the same answers under, beside omnistage's own.",
    )
    judge: JudgeSettings | None = Field(
        default=None,
        description="An LLM that scores answers of `free_form` beside their overlap with the gold "
        "answer; its `model` must be named. None by default.",
        json_schema_extra=added(),
    )
    max_records: int | None = Field(
        default=None, ge=1, description="Ask only the first so many test records; all by default."
    )
    batch_size: int = Field(
        default=8, ge=1, description="Prompts that a process generates for at once."
    )
    max_completion_length: int = Field(default=2048, ge=1, description="Most tokens of an answer.")
    dtype: Dtype = Field(default="bfloat16", description="Type of the weights.")
    attn_impl: Literal["sdpa", "eager", "flash_attn"] = Field(
        default="sdpa", description="Implementation of attention."
    )
    media: MediaSettings = Field(default=MediaSettings(), description="Bounds on decoded media.")
    reward_weights: dict[str, float] | None = Field(
        default=None,
        description="Rewards to report, with their weight in the sum; by default those of the "
        f"last model that was trained with any. Of {', '.join(REWARDS)}.",
    )
    require: dict[str, str] = Field(
        default={},
        description="What the last model must reach, or the step fails with the numbers: "
        "`task.metric` to `>= sft + 0.01`, `> constant` (the best constant baseline) or `>= 0.7`.",
    )
    bootstrap_samples: int = Field(
        default=2000, ge=100, description="Resamples behind every interval."
    )
    seed: int = Field(default=42, ge=0, description="Seed of the resampling and of the samples.")
    cost_per_gpu_hour: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Price of a GPU for an hour, to tell in the report what the run cost.",
        json_schema_extra=added(),
    )
    currency: str = Field(
        default="USD", description="Of `cost_per_gpu_hour`.", json_schema_extra=added()
    )
    notes: list[str] = Field(
        default=[], description="Statements for the report's reader about the data or the run."
    )

    @model_validator(mode="after")
    def _judge_has_a_choice(self) -> "EvalSettings":
        if self.best_of_n_judge and self.samples < 2:
            raise ValueError("best_of_n_judge needs samples of 2 or more to pick from")
        if self.best_of_n_judge and self.models and self.best_of_n_judge not in self.models:
            raise ValueError(f"best_of_n_judge {self.best_of_n_judge!r} is not one of models")
        return self

    @field_validator("judge")
    @classmethod
    def _named_judge(cls, judge: JudgeSettings | None) -> JudgeSettings | None:
        if judge and not judge.model:
            raise ValueError("model: name the model that judges, for it decides the figures")
        return judge

    @field_validator("require")
    @classmethod
    def _readable_rules(cls, require: dict[str, str]) -> dict[str, str]:
        for name, text in require.items():
            read_rule(name, text)
        return require

    @field_validator("reward_weights")
    @classmethod
    def _known_rewards(cls, weights: dict[str, float] | None) -> dict[str, float] | None:
        names = weights or {}
        unknown = [name for name in names if name not in REWARDS and not OWN.fullmatch(name)]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a reward; one of {', '.join(REWARDS)}")
        return weights
