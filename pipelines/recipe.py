"""A recipe: its data sets, its base model, and the steps that are made from them."""

import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from components.download.config import DownloadSettings, ModelSettings
from components.eval.gate import read_rule
from components.rewrite_paths.config import RewriteSettings
from omnistage.cluster.settings import LaunchSettings
from omnistage.kube_names import RunName
from omnistage.recipe.errors import nearest
from omnistage.recipe.schema import Loc
from omnistage.settings import Settings
from pipelines.steps import (
    BASE,
    EVALUATED,
    STEP,
    STEP_SETTINGS,
    TRAINED,
    Asking,
    Training,
    sets_of,
)

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_TAKEN = ("constant", "download", "exit", "run", "summary")
"""Names that mean something else where a step is named."""


class DataSet(DownloadSettings):
    """A data set: where it comes from, and how its records become canonical ones."""

    rewrite_paths: RewriteSettings = Field(
        default=RewriteSettings(), description="How its records become canonical ones."
    )

    def resolve(self) -> "DataSet":
        """Return the settings with the fingerprint of each folder source filled in."""
        return self.model_copy(update={"sources": super().resolve().sources})


class Recipe(Settings):
    """A recipe: the settings of every step of this pipeline."""

    name: RunName = Field(description="Of runs and packages: small letters, digits and hyphens.")
    description: str = Field(default="", description="One line for `omnistage recipes`.")
    pipeline: Literal["post_training"] = Field(description="The pipeline that is run.")
    seed: int = Field(
        default=42, ge=0, description="Of every step whose section does not give its own."
    )
    data: dict[str, DataSet] = Field(min_length=1, description="The data sets, by name.")
    model: ModelSettings = Field(description="Where the base model comes from.")
    other_models: dict[str, ModelSettings] = Field(
        default={},
        description="Other models of the same family, by names that `models` of an evaluation and "
        "`from` of a training step may have: a published checkpoint, a folder.",
    )
    steps: dict[str, STEP] = Field(  # pyright: ignore[reportInvalidTypeForm]
        min_length=1,
        description="Training and evaluation by name, each after those that it starts from.",
    )
    tiny: str = Field(
        default="",
        description="The recipe that --tiny runs instead, a path from this file's folder: the same "
        "steps with a tiny model and generated data.",
    )
    cluster: LaunchSettings = Field(
        default=LaunchSettings(),
        description="How training jobs run on a cluster; decides no result.",
    )

    @model_validator(mode="before")
    @classmethod
    def _inherit_defaults(cls, values: Any) -> Any:
        """Hand down what sections do not set: the seed, and the title of reports."""
        if not isinstance(values, dict):
            return values
        handed = {
            "seed": values.get("seed", cls.model_fields["seed"].default),
            "title": values.get("name", ""),
        }
        data, steps = values.get("data"), values.get("steps")
        if isinstance(data, dict):
            data = {n: _seeded(section, handed["seed"]) for n, section in data.items()}
        if isinstance(steps, dict):
            fields = {s.model_fields["stage"].default: s.model_fields for s in STEP_SETTINGS}
            steps = {n: _with(s, handed, fields) for n, s in steps.items()}
        return {**values, **({"data": data} if data else {}), **({"steps": steps} if steps else {})}

    @model_validator(mode="after")
    def _names_fit(self) -> "Recipe":
        """Check that steps and data sets are named as they can be, and name what there is."""
        wrong = [
            InitErrorDetails(
                type=PydanticCustomError("value_error", "{error}", {"error": said}),
                loc=loc,
                input=value,
            )
            for loc, said, value in _wrong_names(self)
        ]
        if wrong:
            raise ValidationError.from_exception_data("Recipe", wrong)
        return self

    def resolve(self) -> "Recipe":
        """Return the recipe with what its sources point to here pinned down.

        A folder is named by its path, but what counts for the stage key is what is in it now.

        Raises:
            InputError: If a source is not there.
        """
        data = {name: section.resolve() for name, section in self.data.items()}
        others = {name: section.resolve() for name, section in self.other_models.items()}
        models = {"model": self.model.resolve(), "other_models": others}
        return self.model_copy(update={"data": data, **models})


def _error(said: str) -> PydanticCustomError:
    return PydanticCustomError("value_error", "{error}", {"error": said})


def _seeded(section: Any, seed: int) -> Any:
    """Return a data set's section with the recipe's seed for what is random in its rewriting."""
    rewrite = section.get("rewrite_paths", {}) if isinstance(section, dict) else None
    if not isinstance(rewrite, dict):
        return section
    return {**section, "rewrite_paths": {"seed": seed, **rewrite}}


def _with(section: Any, handed: dict[str, Any], fields: dict[str, Any]) -> Any:
    """Return a step's section with what the recipe hands down and its stage has a setting for."""
    if not isinstance(section, dict):
        return section
    known = fields.get(str(section.get("stage")), {})
    return {**{k: v for k, v in handed.items() if k in known}, **section}


def _wrong_names(recipe: Recipe) -> Iterator[tuple[Loc, str, Any]]:
    """Yield where a name is wrong, what is, and the name."""
    others = recipe.other_models
    for section, names in (
        ("data", recipe.data),
        ("other_models", others),
        ("steps", recipe.steps),
    ):
        for name in names:
            if not _NAME.fullmatch(name):
                said = "a name has up to 40 small letters, digits and hyphens, a letter first"
                yield (section, name), said, name
    taken = {*_TAKEN, BASE, *Recipe.model_fields}
    used: set[str] = set()
    trained: dict[str, Any] = {}
    for name in others.keys() & taken:
        yield ("other_models", name), "this name is taken; choose another", name
    for name, step in recipe.steps.items():
        if name in taken | others.keys() or name.startswith(("download-", "mix-")):
            yield ("steps", name), "this name is taken; choose another", name
        for field, named in sets_of(step, recipe.data).items():
            used.update(named)
            for one in set(named) - recipe.data.keys():
                yield ("steps", name, field), _no_such("data set", one, recipe.data), one
            if not named:
                said = f"say which: there are {', '.join(recipe.data)}"
                yield ("steps", name, field), said, None
        if isinstance(step, Training):
            if step.start not in (BASE, *others, *trained):
                said = _no_such("earlier training step", step.start, (BASE, *others, *trained))
                yield ("steps", name, "from"), said, step.start
            trained[name] = step
        if isinstance(step, Asking):
            yield from _wrong_models(name, step, others, trained)
    for name in recipe.data.keys() - used:
        yield ("data", name), "no step uses this data set", name
    for name in others.keys() - _used_models(recipe):
        yield ("other_models", name), "no step uses this model", name


def _used_models(recipe: Recipe) -> set[str]:
    """Return the models that steps name."""
    steps: list[Any] = list(recipe.steps.values())
    named = {step.start for step in steps if step.stage in TRAINED}
    return named.union(*(step.models for step in steps if step.stage in EVALUATED))


def _wrong_models(
    name: str, step: Any, others: dict[str, Any], trained: dict[str, Any]
) -> Iterator[tuple[Loc, str, Any]]:
    known = (BASE, *others, *trained)
    models = step.models or (BASE, *trained)
    for one in models:
        if one not in known:
            yield ("steps", name, "models"), _no_such("earlier training step", one, known), one
    if len(set(models)) < len(models):
        yield ("steps", name, "models"), "a model is named twice", models
    for metric, rule in step.require.items():
        other = read_rule(metric, rule).other
        if other and other not in ("constant", *models):
            said = f"{other!r} is not evaluated here; there are {', '.join(models)}, constant"
            yield ("steps", name, "require", metric), said, rule


def _no_such(what: str, name: str, known: Any) -> str:
    hint = nearest(name, known) or f"there are {', '.join(known)}"
    return f"no {what} {name!r}; {hint}"
