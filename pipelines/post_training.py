"""The post-training pipeline: download → rewrite_paths → sft → grpo → eval.

One definition for every place: ``kfp.local`` runs it on a laptop, and it compiles to a package
for ``kfp run create``. Each stage also compiles to a package of its own, whose inputs are the
URIs of manifests.

On a cluster every task runs in the launcher image; the tasks of sft, grpo and eval launch jobs of
the trainer image. An exit task ends whatever a run leaves behind.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from omnistage.errors import InputError
from omnistage.task.run_record import EXIT
from pipelines.graph import IMAGES, LAUNCHED, SOURCES, STAGES, needed
from pipelines.launch import input_uris, launch_stage, render_stage
from pipelines.plan import PlannedStage, plan
from pipelines.recipe import Recipe, StageRuntimes, config_of, launched, resolve
from pipelines.task_pods import ClusterNames, check_store, place

__all__ = [
    "IMAGES",
    "SOURCES",
    "STAGES",
    "ClusterNames",
    "PlannedStage",
    "Recipe",
    "StageRuntimes",
    "build",
    "build_single",
    "check_images",
    "compile_packages",
    "config_of",
    "input_uris",
    "launch_stage",
    "needed",
    "parameters",
    "plan",
    "render_stage",
    "resolve",
]


@dataclass(frozen=True)
class Parameter:
    """What one changes when a package is submitted; everything else is compiled in."""

    name: str
    kind: type
    about: str
    default: Any = inspect.Parameter.empty


_PLACE = (
    Parameter("node_pool", str, "Node pool of the training jobs; empty for the recipe's.", ""),
    Parameter("queue", str, "Kueue LocalQueue of the training jobs; empty for the recipe's.", ""),
    Parameter("nodes", int, "Pods of a job; 0 for the recipe's. Evaluation takes one.", 0),
    Parameter("gpus_per_node", int, "GPUs of a pod; 0 for the recipe's.", 0),
)
_SOURCE = (
    Parameter("data", str, "URI of the data set, instead of the recipe's sources.", ""),
    Parameter("model", str, "URI of the base model, instead of the recipe's sources.", ""),
)
_FETCHES = {"download": "data", "download_model": "model"}
"""Stage to the parameter that replaces its sources."""


@dataclass(frozen=True)
class Target:
    """What a package is compiled for."""

    images: Mapping[str, str]
    """Image of each name in :data:`IMAGES`, pinned by digest."""
    names: ClusterNames
    cached_only: Sequence[str] = ()
    """Stages that are taken from the store and never made."""
    caching: bool = True
    """Whether KFP may skip a stage that it knows; the store is asked in any case."""


def build(recipe: Recipe, store: str, *, to: str = "eval") -> Any:
    """Return the pipeline of a recipe, or what a stage of it rests on, for this machine.

    Args:
        recipe: Already resolved, see :func:`resolve`.
        store: URI of the store; the default of the pipeline's parameter ``store``.
        to: The last stage.
    """
    from kfp import dsl

    def pipeline(store: str = store) -> None:
        tasks: dict[str, Any] = {}
        for name in needed(to):
            sources = {i: tasks[s] for i, s in SOURCES.get(name, {}).items()}
            runtime = getattr(recipe.runtime, name).model_dump() if name in LAUNCHED else None
            tasks[name] = _task(recipe, name, store, sources, runtime)

    return dsl.pipeline(
        name=f"post-training-{recipe.name}", description=recipe.description or "Post-training."
    )(pipeline)


def build_package(recipe: Recipe, store: str, target: Target) -> Any:
    """Return the pipeline of a recipe for a cluster.

    Args:
        recipe: Already resolved.
        store: URI of the store; the default of the pipeline's parameter ``store``.
        target: What it is compiled for.
    """

    def body(values: Mapping[str, Any]) -> None:
        with _ended(recipe, list(STAGES), store, values["store"], target):
            tasks: dict[str, Any] = {}
            for name in STAGES:
                sources = {i: tasks[s] for i, s in SOURCES.get(name, {}).items()}
                tasks[name] = _placed(recipe, name, store, values, sources, target)

    about = recipe.description or "Post-training."
    return _pipeline(f"post-training-{recipe.name}", about, parameters(store), body)


def build_single(recipe: Recipe, name: str, store: str, target: Target) -> Any:
    """Return a pipeline of one stage, whose inputs are parameters: the URIs of manifests.

    Args:
        recipe: Already resolved.
        name: The stage.
        store: URI of the store; the default of the pipeline's parameter ``store``.
        target: What it is compiled for.
    """
    from kfp import dsl

    from omnistage.kubeflow import types

    stage = STAGES[name]

    def body(values: Mapping[str, Any]) -> None:
        with _ended(recipe, [name], store, values["store"], target):
            imported = {
                i: dsl.importer(
                    artifact_uri=values[i],
                    artifact_class=getattr(types, kind),
                    reimport=False,
                )
                for i, kind in stage.inputs.items()
            }
            _placed(recipe, name, store, values, imported, target)

    inputs = [
        Parameter(i, str, f"URI of the manifest of a {kind}, in S3.")
        for i, kind in stage.inputs.items()
    ]
    sources = [p for p in _SOURCE if p.name == _FETCHES.get(name)]
    place = [p for p in _PLACE if p.name in _place_of(name)]
    return _pipeline(
        f"{name.replace('_', '-')}-{recipe.name}",
        f"The stage {name} alone.",
        (*inputs, *sources, _store(store), *place),
        body,
    )


def compile_packages(
    recipe: Recipe,
    folder: Path,
    store: str,
    images: Mapping[str, str],
    *,
    names: ClusterNames | None = None,
    first: str | None = None,
    only: Sequence[str] | None = None,
    caching: bool = True,
) -> list[Path]:
    """Compile the pipeline and each stage alone into packages for ``kfp run create``.

    Args:
        recipe: What to compile.
        folder: Where the packages go: ``post_training.yaml`` and ``<stage>.yaml``.
        store: URI of the store.
        images: Image of each name in :data:`IMAGES`, pinned by digest.
        names: Names of objects in the namespace that are not the chart's own.
        first: Stage to begin at; what it rests on is taken from the store or the run fails.
        only: Which packages; by default all.
        caching: Whether KFP may skip a stage that it knows; the store is asked in any case.

    Raises:
        InputError: If an image is missing or not pinned by digest, or a cluster cannot reach the
            store.
    """
    from kfp import compiler

    check_images(images)
    check_store(store, recipe.cluster)
    recipe = resolve(recipe)
    before = needed(first)[:-1] if first else ()
    target = Target(images, names or ClusterNames(), before, caching)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in only or ("post_training", *STAGES):
        if name in STAGES:
            pipeline = build_single(recipe, name, store, target)
        else:
            pipeline = build_package(recipe, store, target)
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


def _pipeline(
    name: str,
    about: str,
    parameters: Sequence[Parameter],
    body: Callable[[Mapping[str, Any]], None],
) -> Any:
    """Return a pipeline with these parameters; KFP reads them from signature and docstring."""
    from kfp import dsl

    def pipeline(*values: Any) -> None:
        body({p.name: value for p, value in zip(parameters, values, strict=True)})

    lines = "\n".join(f"    {p.name}: {p.about}" for p in parameters)
    pipeline.__doc__ = f"{about}\n\nArgs:\n{lines}\n"
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    pipeline.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
        [inspect.Parameter(p.name, kind, annotation=p.kind, default=p.default) for p in parameters]
    )
    return dsl.pipeline(name=name, description=about)(pipeline)


def _store(store: str) -> Parameter:
    return Parameter("store", str, "URI of the store.", store)


def _ended(recipe: Recipe, stages: list[str], compiled: str, store: Any, target: Target) -> Any:
    """Return the group of tasks after which the exit task runs."""
    from kfp import dsl

    from pipelines.exit_task import end_run

    last: Any = end_run(store=store, stages=",".join(stages)).set_display_name(EXIT)  # pyright: ignore[reportCallIssue]
    place(last, EXIT, target.images["launcher"], compiled, recipe.cluster, target.names)
    return dsl.ExitHandler(last, name="stages")


def _placed(
    recipe: Recipe,
    name: str,
    compiled: str,
    values: Mapping[str, Any],
    sources: Mapping[str, Any],
    target: Target,
) -> Any:
    """Add the task of a stage as it runs on a cluster."""
    from omnistage.task.kfp_body import CACHED_ONLY_VARIABLE

    runtime = None
    arguments = {parameter: values[parameter] for parameter in _place_of(name)}
    if name in launched(recipe):
        settings = recipe.cluster.model_dump(mode="json", exclude_unset=True)
        runtime = {"cluster": {"image": target.images["trainer"], "settings": settings}}
    if name in _FETCHES:
        arguments["source"] = values[_FETCHES[name]]
    task = _task(recipe, name, values["store"], sources, runtime, arguments)
    image = target.images["launcher"]
    place(
        task,
        name,
        image,
        compiled,
        recipe.cluster,
        target.names,
        launched=name in launched(recipe),
        caching=target.caching,
    )
    if name in target.cached_only:
        task.set_env_variable(CACHED_ONLY_VARIABLE, name)
    return task


def parameters(store: str) -> tuple[Parameter, ...]:
    """Return what one may give when the whole pipeline is submitted."""
    return (*_SOURCE, _store(store), *_PLACE)


def _place_of(stage: str) -> list[str]:
    """Return the parameters of a stage's job."""
    if stage not in LAUNCHED:
        return []
    return [p.name for p in _PLACE if stage != "eval" or p.name != "nodes"]


def _task(
    recipe: Recipe,
    name: str,
    store: Any,
    sources: Mapping[str, Any],
    runtime: Mapping[str, Any] | None,
    more: Mapping[str, Any] | None = None,
) -> Any:
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
    settings = config_of(recipe, name).model_dump(mode="json")
    arguments: dict[str, Any] = {"config": _json(settings), "store": store, **(more or {})}
    if runtime is not None:
        arguments["runtime"] = _json(runtime)
    for i, source in sources.items():
        arguments[renamed.get(i, i)] = _artifact(source)
    return made[name](**arguments).set_display_name(name)


def _artifact(task: Any) -> Any:
    """Return the manifest artifact of a task: its first output."""
    outputs: Sequence[str] = list(task.outputs)
    return task.outputs["report" if "report" in outputs else outputs[0]]


def _json(values: Mapping[str, Any]) -> str:
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()
