"""The post-training pipeline: download → rewrite_paths → sft → grpo → eval.

One definition for every place: ``kfp.local`` runs it on a laptop, and it compiles to a package
for ``kfp run create``. Each stage also compiles to a package of its own, whose inputs are the
URIs of manifests.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
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
from omnistage.config import Settings
from omnistage.errors import DamagedError, InputError
from omnistage.stage import Runtime, Stage, stage_key
from omnistage.store import open_store

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
IMAGES = {
    "launcher": ("download", "download_model", "rewrite_paths"),
    "trainer": ("sft", "grpo", "eval"),
}
"""Image to the stages that run in it."""
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


def build(
    recipe: Recipe,
    store: str,
    *,
    to: str = "eval",
    images: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Return the pipeline of a recipe, up to a stage.

    Args:
        recipe: Already resolved, see :func:`resolve`.
        store: URI of the store; the default of the pipeline's parameter ``store``.
        to: The last stage.
        images: Image of each name in :data:`IMAGES`; none for a run without containers.
        environment: Variables for every task; nothing in them may decide a result.
    """
    from kfp import dsl

    last = list(STAGES).index(to)
    wanted = list(STAGES)[: last + 1]

    def pipeline(store: str = store) -> None:
        tasks: dict[str, Any] = {}
        for name in wanted:
            sources = {i: tasks[s] for i, s in SOURCES.get(name, {}).items()}
            tasks[name] = _task(recipe, name, store, sources)
            _prepare(tasks[name], name, images or {}, environment or {})

    return dsl.pipeline(
        name=f"post-training-{recipe.name}", description=recipe.description or "Post-training."
    )(pipeline)


def build_single(recipe: Recipe, name: str, store: str, images: Mapping[str, str]) -> Any:
    """Return a pipeline of one stage, whose inputs are parameters: the URIs of manifests.

    Args:
        recipe: Already resolved.
        name: The stage.
        store: URI of the store; the default of the pipeline's parameter ``store``.
        images: Image of each name in :data:`IMAGES`.
    """
    from kfp import dsl

    from omnistage import kubeflow

    stage = STAGES[name]

    def pipeline(*values: Any) -> None:
        arguments = dict(zip([*stage.inputs, "store"], values, strict=True))
        imported = {
            i: dsl.importer(
                artifact_uri=arguments[i],
                artifact_class=getattr(kubeflow, kind),
                reimport=False,
            )
            for i, kind in stage.inputs.items()
        }
        task = _task(recipe, name, arguments["store"], imported)
        _prepare(task, name, images, {})

    uri = inspect.Parameter.POSITIONAL_OR_KEYWORD
    pipeline.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
        [inspect.Parameter(i, uri, annotation=str) for i in stage.inputs]
        + [inspect.Parameter("store", uri, annotation=str, default=store)]
    )
    title = f"{name.replace('_', '-')}-{recipe.name}"
    return dsl.pipeline(name=title, description=f"The stage {name} alone.")(pipeline)


def compile_packages(
    recipe: Recipe, folder: Path, store: str, images: Mapping[str, str]
) -> list[Path]:
    """Compile the pipeline and each stage alone into packages for ``kfp run create``.

    Args:
        recipe: What to compile.
        folder: Where the packages go: ``post_training.yaml`` and ``<stage>.yaml``.
        store: URI of the store.
        images: Image of each name in :data:`IMAGES`, pinned by digest.

    Raises:
        InputError: If an image is missing or not pinned by digest.
    """
    from kfp import compiler

    check_images(images)
    recipe = resolve(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    built = {"post_training": build(recipe, store, images=images)}
    built |= {name: build_single(recipe, name, store, images) for name in STAGES}
    paths = []
    for name, pipeline in built.items():
        path = folder / f"{name}.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        paths.append(path)
    return paths


def check_images(images: Mapping[str, str]) -> None:
    """Check that every image is given and pinned by digest.

    Raises:
        InputError: Saying which is missing, unknown or not pinned, and how to give it.
    """
    unknown = sorted(set(images) - set(IMAGES))
    if unknown:
        raise InputError(f"image {unknown[0]!r}: no such image; there are {', '.join(IMAGES)}")
    wrong = []
    for name, stages in IMAGES.items():
        if not re.search(r"@sha256:[0-9a-f]{64}$", images.get(name, "")):
            what = "not pinned by digest" if name in images else "missing"
            wrong.append(f"{name} (for {', '.join(stages)}) is {what}")
    if wrong:
        raise InputError(
            "images are pinned by digest, since a tag may change under a cached result: "
            f"{'; '.join(wrong)}. Give each as --image NAME=REPOSITORY@sha256:…"
        )


def _task(recipe: Recipe, name: str, store: Any, sources: Mapping[str, Any]) -> Any:
    from components.download.component import download, download_model
    from components.eval.component import evaluate
    from components.grpo.component import grpo
    from components.rewrite_paths.component import rewrite_paths
    from components.sft.component import sft

    made: dict[str, Callable[..., Any]] = {
        "download": download,
        "download_model": download_model,
        "rewrite_paths": rewrite_paths,
        "sft": sft,
        "grpo": grpo,
        "eval": evaluate,
    }
    renamed = {"eval": {"grpo": "adapter"}}.get(name, {})
    # As JSON text: KFP's own dictionaries turn every integer into a float.
    arguments: dict[str, Any] = {"config": _json(config_of(recipe, name)), "store": store}
    if name in StageRuntimes.model_fields:
        arguments["runtime"] = _json(getattr(recipe.runtime, name))
    for i, source in sources.items():
        arguments[renamed.get(i, i)] = _artifact(source)
    return made[name](**arguments).set_display_name(name)


def _artifact(task: Any) -> Any:
    """Return the manifest artifact of a task: its first output."""
    outputs: Sequence[str] = list(task.outputs)
    return task.outputs["report" if "report" in outputs else outputs[0]]


def _prepare(task: Any, name: str, images: Mapping[str, str], env: Mapping[str, str]) -> None:
    for image, stages in IMAGES.items():
        if name in stages and image in images:
            task.set_container_image(images[image])
    for variable, value in env.items():
        task.set_env_variable(variable, value)


def _json(settings: Any) -> str:
    return orjson.dumps(settings.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS).decode()
