"""What the checks in the trainer are told, and what they find; without torch."""

from typing import Literal

from pydantic import BaseModel

from omnistage.swift.family import Family
from omnistage.swift.settings import TrainingSettings

NAME = "omnistage"
"""Of the callback, for ms-swift's ``--callbacks``."""
VARIABLE = "OMNISTAGE_CHECKS"
"""Holds a :class:`ChecksSpec` as JSON."""
FOUND = "checks.json"
"""In the trainer's output folder."""
Part = Literal["aligner", "vision_tower", "language_model"]


class ChecksSpec(BaseModel):
    """What a training is to be like."""

    tuner: Literal["full", "lora"]
    frozen: list[Part]
    """Parts of which no weight may be trained."""
    wanted: list[Part]
    """Parts of which some must be."""
    experts: list[str] = []
    """Weights of experts that must have an adapter."""
    rows: str | None = None
    """The data set whose media must change the loss; None where that is seen already."""


class Found(BaseModel):
    """What was found."""

    trainable: dict[str, int] = {}
    """Module that is trained, with ``*`` for a layer's number, to its number of weights."""
    media: str | None = None
    """How much the log probabilities change with another medium."""
    problem: str | None = None
    """Why the training did not begin."""


def checks_spec(config: TrainingSettings, family: Family, rows: str | None) -> ChecksSpec:
    """Return what a training with these settings is to be like.

    Args:
        config: The stage's settings.
        family: The model's.
        rows: See :attr:`ChecksSpec.rows`.
    """
    parts: dict[Part, bool] = {
        "aligner": config.freeze_aligner,
        "vision_tower": config.freeze_vit,
        "language_model": False,
    }
    everywhere = config.tuner == "full" or config.target_modules == ["all-linear"]
    return ChecksSpec(
        tuner=config.tuner,
        frozen=[part for part, frozen in parts.items() if frozen],
        wanted=[part for part, frozen in parts.items() if not frozen] if everywhere else [],
        experts=list(family.experts) if config.tuner == "lora" and everywhere else [],
        rows=rows,
    )
