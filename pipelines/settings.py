"""What the post-training pipeline is made of: its stages, their order, and a recipe's settings."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from components.download.config import DownloadSettings, ModelSettings
from components.download.stage import MODEL_STAGE
from components.download.stage import STAGE as DOWNLOAD
from components.eval.config import EvalSettings
from components.eval.stage import STAGE as EVAL
from components.grpo.config import GRPOSettings
from components.grpo.stage import STAGE as GRPO
from components.rewrite_paths.config import RewriteSettings
from components.rewrite_paths.stage import STAGE as REWRITE
from components.sft.config import SFTSettings
from components.sft.stage import STAGE as SFT
from omnistage.artifacts import Manifest
from omnistage.config import Settings
from omnistage.errors import DamagedError, InputError
from omnistage.launch.settings import LaunchSettings
from omnistage.stage import Runtime, Stage, stage_key
from omnistage.store import Store, open_store

STAGES: dict[str, Stage[Any]] = {
    s.name: s for s in (DOWNLOAD, MODEL_STAGE, REWRITE, SFT, GRPO, EVAL)
}
SOURCES: dict[str, dict[str, str]] = {
    "rewrite_paths": {"data": "download"},
    "sft": {"data": "download", "records": "rewrite_paths", "model": "download_model"},
    "grpo": {
        "data": "download",
        "records": "rewrite_paths",
        "model": "download_model",
        "sft": "sft",
    },
    "eval": {
        "data": "download",
        "records": "rewrite_paths",
        "model": "download_model",
        "sft": "sft",
        "grpo": "grpo",
    },
}
"""For each stage, which stage makes each of its inputs."""
LAUNCHED = ("sft", "grpo", "eval")
"""Stages that are training jobs on a cluster; see also :func:`launched`."""
IMAGES = {"launcher": tuple(STAGES), "trainer": LAUNCHED}
"""Image to the stages that need it: the tasks run in the launcher, the jobs in the trainer."""
_SECTIONS = {"download": "data", "download_model": "model"}
_SEEDED = ("rewrite_paths", "sft", "grpo", "eval")


class StageRuntimes(Settings):
    """How the stages that start torchrun run on this machine."""

    sft: Runtime = Field(default=Runtime(), description="Of supervised fine-tuning.")
    grpo: Runtime = Field(default=Runtime(), description="Of GRPO.")
    eval: Runtime = Field(default=Runtime(), description="Of the evaluation.")


class Recipe(Settings):
    """A recipe: the settings of every stage of this pipeline."""

    name: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?$",
        description="Of runs and packages: small letters, digits and hyphens.",
    )
    description: str = Field(default="", description="One line for `omnistage recipes`.")
    pipeline: Literal["post_training"] = Field(description="The pipeline that is run.")
    seed: int = Field(
        default=42, ge=0, description="Of every stage whose section does not give its own."
    )
    data: DownloadSettings = Field(description="Where the data set comes from.")
    model: ModelSettings = Field(description="Where the base model comes from.")
    rewrite_paths: RewriteSettings = Field(description="How records become canonical ones.")
    sft: SFTSettings = Field(default=SFTSettings(), description="Supervised fine-tuning.")
    grpo: GRPOSettings = Field(default=GRPOSettings(), description="GRPO.")
    eval: EvalSettings = Field(default=EvalSettings(), description="Evaluation.")
    runtime: StageRuntimes = Field(
        default=StageRuntimes(), description="How stages run here; decides no result."
    )
    cluster: LaunchSettings = Field(
        default=LaunchSettings(),
        description="How training jobs run on a cluster; decides no result.",
    )

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, values: Any) -> Any:
        """Give the recipe's seed to the stages and its name to the report."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        seed = values.get("seed", cls.model_fields["seed"].default)
        for name in _SEEDED:
            section = values.get(name, {})
            if isinstance(section, dict):
                values[name] = {"seed": seed, **section}
        if isinstance(values["eval"], dict):
            values["eval"] = {"title": values.get("name", ""), **values["eval"]}
        return values


def launched(recipe: Recipe) -> tuple[str, ...]:
    """Return the stages of a recipe that are jobs on a cluster.

    They need the trainer's image: so does the tiny base model, which torch makes.
    """
    tiny = any(source.type == "tiny" for source in recipe.model.sources)
    return ("download_model", *LAUNCHED) if tiny else LAUNCHED


@dataclass(frozen=True)
class PlannedStage:
    """What a run would do with a stage."""

    name: str
    key: str | None
    """None while an input of it is not made yet."""
    cached: bool | None
    """Whether the store has its result; None when that depends on a stage before it."""
    reason: str


def config_of(recipe: Recipe, stage: str) -> Settings:
    """Return a stage's section of a recipe."""
    return getattr(recipe, _SECTIONS.get(stage, stage))


def needed(stage: str) -> list[str]:
    """Return all stages that a stage rests on, in the order of the pipeline, and itself."""
    found = {stage}
    for name in reversed(STAGES):
        if name in found:
            found.update(SOURCES.get(name, {}).values())
    return [name for name in STAGES if name in found]


def resolve(recipe: Recipe) -> Recipe:
    """Return the recipe with what its sources point to here pinned down.

    A folder is named by its path, but what counts for the stage key is what is in it now.

    Raises:
        InputError: If a source is not there.
    """
    return recipe.model_copy(
        update={"data": recipe.data.resolve(), "model": recipe.model.resolve()}
    )


def plan(recipe: Recipe, store: str) -> list[PlannedStage]:
    """Return what a run would do, stage by stage, as far as it can be known before.

    Args:
        recipe: What to run.
        store: URI of the store.
    """
    recipe, opened = resolve(recipe), open_store(store)
    digests: dict[str, str] = {}
    planned = []
    for name, stage in STAGES.items():
        sources = SOURCES.get(name, {})
        waits = [s for s in sources.values() if s not in digests]
        if waits:
            reason = f"depends on what {', '.join(waits)} will make"
            planned.append(PlannedStage(name, None, None, reason))
            continue
        key = stage_key(stage, config_of(recipe, name), {i: digests[s] for i, s in sources.items()})
        try:
            found = opened.find(name, key)
            reason = "in the store, whole" if found else "not in the store"
        except DamagedError as e:
            found, reason = None, str(e)
        if found:
            digests[name] = found.digest
        planned.append(PlannedStage(name, key, found is not None, reason))
    return planned


def stored_inputs(recipe: Recipe, stage: str, store: Store) -> dict[str, Manifest]:
    """Return the inputs of a stage, which the stages before it have put into a store.

    Args:
        recipe: Already resolved.
        stage: The stage that needs them.
        store: Where they are.

    Raises:
        InputError: If one is not there, naming the stage that makes it.
    """
    made: dict[str, Manifest] = {}
    for name, source in SOURCES.get(stage, {}).items():
        before = stored_inputs(recipe, source, store)
        digests = {i: m.digest for i, m in before.items()}
        key = stage_key(STAGES[source], config_of(recipe, source), digests)
        found = store.find(source, key)
        if found is None:
            raise InputError(
                f"{stage}: its input {name!r} is not in {store.uri}: {source} {key} was not made; "
                f"run the recipe up to {source} first"
            )
        made[name] = found
    return made
