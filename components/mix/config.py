"""Settings of the stage ``mix``; a recipe's steps say them, see :mod:`pipelines.graph`."""

from typing import Literal

from pydantic import Field

from omnistage.records.record import Split
from omnistage.settings import Settings


class MixSettings(Settings):
    """Which records are put together, and how."""

    split: Split = Field(description="The records: of one split of every data set.")
    weights: list[float] = Field(
        default=[],
        description="Probability weight of each data set, in order; without, they follow one "
        "another.",
    )
    mix_until: Literal["first", "all"] = Field(
        default="first",
        description="With weights: stop when the first data set runs out, or go on with those "
        "that are left.",
    )
    seed: int = Field(default=42, ge=0, description="Seed of the order.")
