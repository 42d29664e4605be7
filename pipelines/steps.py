"""What a step of a recipe may be: a stage, its settings, and what it is made from.

A training step says ``from``, what it starts from, and ``records``, what it learns; an evaluation
says ``models`` and ``tests``. How they hang together is in :mod:`pipelines.graph`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union

from pydantic import Field, create_model

from components.download.stage import MODEL_STAGE
from components.download.stage import STAGE as DOWNLOAD
from components.dpo.stage import STAGE as DPO
from components.eval.stage import STAGE as EVAL
from components.grpo.stage import STAGE as GRPO
from components.mix.stage import STAGE as MIX
from components.rewrite_paths.stage import STAGE as REWRITE
from components.sft.stage import STAGE as SFT
from omnistage.records.record import Split
from omnistage.settings import Settings, operational
from omnistage.stage.contract import Stage

STAGES: Mapping[str, Stage[Any]] = {
    s.name: s for s in (DOWNLOAD, MODEL_STAGE, REWRITE, MIX, SFT, GRPO, DPO, EVAL)
}
TRAINED: Mapping[str, Split] = {"sft": "sft", "grpo": "rl", "dpo": "rl"}
"""The stages that train, and the split of a data set that each learns."""
EVALUATED = ("eval",)
"""The stages that evaluate, on the split ``test``."""
BASE = "base"
"""What ``from`` and ``models`` call the base model."""


class StepSettings(Settings):
    """What every step of a recipe says beside its stage's own settings."""

    nproc_per_node: int | None = Field(
        default=None,
        ge=1,
        description="Processes on one machine; by default one for each GPU, or one on a machine "
        "without.",
        json_schema_extra=operational(),
    )


# A class statement cannot declare a field that is called like a word of Python.
_make_settings: Any = create_model
_From: Any = _make_settings(
    "_From",
    __base__=StepSettings,
    **{
        "from": (
            str,
            Field(description="`base`, one of `other_models`, or an earlier training step."),
        )
    },
)


class Training(_From):
    """What a training step says beside its stage's own settings."""

    records: str | dict[str, float] | None = Field(
        default=None,
        description="The data set to learn, or several with the weights that they are mixed by, "
        "such as {clips: 2, sounds: 1}; it may be left out where there is one.",
    )
    mix_until: Literal["first", "all"] = Field(
        default="first",
        description="With weights: stop when the first data set runs out, or go on with those "
        "that are left.",
    )

    @property
    def start(self) -> str:
        """What it starts from."""
        return getattr(self, "from")


class Asking(StepSettings):
    """What an evaluation says beside its stage's own settings."""

    tests: str | list[str] | None = Field(
        default=None,
        description="The data set whose test records are asked, or several; it may be left out "
        "where there is one.",
    )


def _settings_of(name: str, wiring: type[StepSettings]) -> type[StepSettings]:
    """Return the settings of a recipe's step of one stage."""
    stage: Any = Literal[name]  # pyright: ignore[reportInvalidTypeForm]
    return _make_settings(
        f"{name.upper()}Step",
        __base__=(wiring, STAGES[name].config),
        __doc__=STAGES[name].config.__doc__,
        stage=(stage, Field(default=name, description="The stage.")),
    )


STEP_SETTINGS: Any = (
    *(_settings_of(name, Training) for name in TRAINED),
    *(_settings_of(name, Asking) for name in EVALUATED),
)
"""What stands in a recipe's ``steps``, one class for each stage that may."""
STEP: Any = Annotated[Union[STEP_SETTINGS], Field(discriminator="stage")]  # noqa: UP007
"""One of them, told by its ``stage``."""


def sets_of(step: Any, data: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the data sets that a step of a recipe names, by the setting that names them.

    Args:
        step: Its settings.
        data: The recipe's data sets; the only one need not be named.
    """
    setting = "records" if isinstance(step, Training) else "tests"
    named = getattr(step, setting)
    if named is None:
        return {setting: list(data) if len(data) == 1 else []}
    return {setting: [named] if isinstance(named, str) else list(named)}
