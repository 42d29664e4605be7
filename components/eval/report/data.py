"""What the report is made from: plain data, gathered by the stage before anything is drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

from omnistage.records.verdict import Better

ModelName = Literal["base", "sft", "grpo"]

TITLES: dict[ModelName, str] = {"base": "Base", "sft": "SFT", "grpo": "GRPO"}
"""How each model is called in the report, in the order of training."""


class Answer(TypedDict):
    """A model's answer to one pair in one order."""

    text: str
    """What the model wrote, unchanged."""
    valid: bool
    """Whether it is a verdict as the format demands."""
    better: Better | None
    """The response it prefers, named as in the record (mapped back where the order was swapped);
    ``None`` when no verdict could be read."""


class Judgement(TypedDict):
    """A model's answers to one record in both orders."""

    id: str
    modality: str
    gold: Better
    first: Answer
    """Responses in the record's order."""
    second: Answer
    """Responses swapped; ``better`` is mapped back."""
    rewards: dict[str, float | None]
    """Each reward, the mean over both orders; ``None`` where it does not apply."""


def winner(answer: Answer) -> Better | None:
    """Return the response an answer prefers; ``None`` where it is not a valid verdict."""
    return answer["better"] if answer["valid"] else None


def total_reward(rewards: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """Return the weighted sum of the rewards that apply, or ``None`` when none does."""
    present = [weights[name] * value for name, value in rewards.items() if value is not None]
    return math.fsum(present) if present else None


@dataclass(frozen=True)
class ModelResult:
    """All judgements of one model, one for each test record."""

    name: ModelName
    judgements: Sequence[Judgement]


@dataclass(frozen=True)
class EvalRecord:
    """A test record as people read it.

    Attributes:
        id: The record's id.
        modality: The group it is counted in, such as ``image``.
        question: The question about the medium.
        response_a: The candidate called A.
        response_b: The candidate called B.
        gold: The better one.
        media: The medium on local disk.
        media_type: How to show it.
    """

    id: str
    modality: str
    question: str
    response_a: str
    response_b: str
    gold: Better
    media: Path
    media_type: Literal["image", "audio", "video"]


@dataclass(frozen=True)
class StageRun:
    """One stage of the run that led to this report.

    Attributes:
        name: Stage name.
        key: Stage key.
        digest: Content digest of its artifact.
        cached: Taken from the store, not computed in this run; ``None`` when unknown.
        seconds: Wall time of the computation; ``None`` when unknown.
        versions: Versions of the libraries that decide the result.
        config: The stage's settings.
    """

    name: str
    key: str
    digest: str = ""
    cached: bool | None = None
    seconds: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """Everything the report shows.

    Attributes:
        recipe: Name of the recipe.
        models: The models that were evaluated, in the order base, SFT, GRPO; any may be missing.
        records: The test records, in the order of the test file.
        reward_weights: Weight of each reward in the total, as in GRPO.
        curves: Rows of each training log by stage name (``sft``, ``grpo``), oldest first.
        stages: What ran, in order.
        seeds: Seeds by what they seed.
        notes: Plain statements about the data or the run that a reader should know.
        bootstrap_samples: Resamples behind every interval.
        bootstrap_seed: Seed of the resampling.
    """

    recipe: str
    models: Sequence[ModelResult]
    records: Sequence[EvalRecord]
    reward_weights: Mapping[str, float]
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    stages: Sequence[StageRun] = ()
    seeds: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    bootstrap_samples: int = 2000
    bootstrap_seed: int = 0
