"""What the report is made from: plain data, gathered by the stage before anything is drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.eval.grading import Graded
from components.eval.records import TestRecord

TITLES: dict[str, str] = {"base": "Base", "sft": "SFT", "grpo": "GRPO"}
"""How models of the usual names are called in the report."""


def title_of(model: str) -> str:
    """Return how a model is called in the report: mostly by its own name."""
    return TITLES.get(model, model)


def total_reward(rewards: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """Return the weighted sum of the rewards that apply, or ``None`` when none does."""
    present = [weights[name] * value for name, value in rewards.items() if value is not None]
    return math.fsum(present) if present else None


@dataclass(frozen=True)
class ModelResult:
    """All graded answers of one model, one for each test record, in any order."""

    name: str
    graded: Sequence[Graded]


@dataclass(frozen=True)
class RowCounts:
    """What became of the rows that a stage read; the sums meet.

    Attributes:
        read: Rows in.
        kept: Records out, or trained on.
        rejected: Set aside, by reason.
        left_out: Not wanted by the recipe, by cause.
    """

    read: int
    kept: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class StageRun:
    """One stage of the run that led to this report.

    Attributes:
        name: Stage name.
        key: Stage key.
        digest: Content digest of its artifact.
        seconds: Wall time of the computation; ``None`` when unknown.
        versions: Versions of the libraries that decide the result.
        config: The stage's settings.
        rows: What became of its rows, if it takes any apart.
        machine: ``nodes``, ``cpus``, ``gpus`` and ``gpu``, the GPUs' model; see
            :func:`omnistage.torchrun.machine.machine`. Empty when unknown.
    """

    name: str
    key: str
    digest: str = ""
    seconds: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    rows: RowCounts | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """Everything the report shows.

    Attributes:
        recipe: Name of the recipe.
        models: The models that were evaluated, in the order of training.
        records: The test records, in the order of the test file.
        ablations: By ablation, each model's answers to the records that it changes; see
            :mod:`components.eval.variants.ablation`.
        samples: By model, the graded answers of each sample; see
            :mod:`components.eval.variants.samples`.
        judged: By model and record id, the LLM judge's score of the answer, 0 to 1; None where it
            named none; see :mod:`components.eval.judged`.
        picked: By model, the sample of each record that ``picked_by`` picks; see
            :mod:`components.eval.variants.best_of_n`.
        picked_by: The model that picks.
        rotated: By model and record id, what it says in each rotation of the options; see
            :mod:`components.eval.variants.rotations`.
        protocols: Names of protocols under which the same answers are scored too.
        repeated: Models that differ in their seeds alone, by what they have in common.
        reward_weights: Weight of each reward in the total, as in GRPO.
        curves: Rows of each training log by the step's name, oldest first.
        stages: What ran, in order.
        seeds: Seeds by what they seed.
        cost_per_gpu_hour: Price of a GPU for an hour; ``None`` where none was given.
        currency: Of the price.
        notes: Plain statements about the data or the run that a reader should know.
        bootstrap_samples: Resamples behind every interval.
        bootstrap_seed: Seed of the resampling.
    """

    recipe: str
    models: Sequence[ModelResult]
    records: Sequence[TestRecord]
    reward_weights: Mapping[str, float]
    ablations: Mapping[str, Sequence[ModelResult]] = field(default_factory=dict)
    samples: Mapping[str, Sequence[Sequence[Graded]]] = field(default_factory=dict)
    judged: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    picked: Mapping[str, Sequence[Graded]] = field(default_factory=dict)
    picked_by: str = ""
    rotated: Mapping[str, Mapping[str, Sequence[str | None]]] = field(default_factory=dict)
    protocols: Sequence[str] = ()
    repeated: Mapping[str, Sequence[str]] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    stages: Sequence[StageRun] = ()
    seeds: Mapping[str, int] = field(default_factory=dict)
    cost_per_gpu_hour: float | None = None
    currency: str = ""
    notes: Sequence[str] = ()
    bootstrap_samples: int = 2000
    bootstrap_seed: int = 0
