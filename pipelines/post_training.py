"""The pipeline of a recipe, as Kubeflow Pipelines runs it.

One definition for every place: ``kfp.local`` runs it on a laptop, and it compiles to a package
for ``kfp run create``. Each step also compiles to a package of its own, whose inputs are the URIs
of manifests.

On a cluster every task runs in the launcher image; those of training and evaluation launch jobs of
the trainer image. An exit task ends whatever a run leaves behind.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from omnistage.errors import InputError
from omnistage.kubeflow.sdk import Parameter, make_pipeline
from omnistage.task.run_record import EXIT
from pipelines.graph import Graph, Step, graph_of, launched, needed
from pipelines.recipe import Recipe
from pipelines.step_component import (
    JOB,
    RESULT,
    job_parameters,
    source_parameter,
    step_component,
)
from pipelines.task_pods import (
    EXIT_NEEDS,
    ClusterNames,
    check_store,
    configure_task_pod,
    step_needs,
)

PIPELINE = "post_training"
"""Name of the package of the whole pipeline."""


@dataclass(frozen=True)
class Target:
    """What a package is compiled for."""

    images: Mapping[str, str]
    """``launcher`` and ``trainer``, each pinned by digest."""
    names: ClusterNames
    cached_only: Sequence[str] = ()
    """Steps that are taken from the store and never made."""
    caching: bool = True
    """Whether KFP may skip a step that it knows; the store is asked in any case."""


def build(recipe: Recipe, store: str, last: str | None = None) -> Any:
    """Return the pipeline of a recipe for this machine.

    Args:
        recipe: Already resolved, see :meth:`Recipe.resolve`.
        store: URI of the store; the default of the pipeline's parameter ``store``.
        last: The step to run to, with its upstream steps; by default all steps.
    """
    graph = graph_of(recipe)

    def body(values: Mapping[str, Any]) -> None:
        tasks: dict[str, Any] = {}
        for step in (graph[name] for name in needed(graph, *([last] if last else graph))):
            runtime = step.runtime.model_dump() if step.runtime else None
            sources = {i: tasks[s] for i, s in step.sources.items()}
            tasks[step.name] = _task(step, graph, values, sources, runtime)

    return make_pipeline(_pipeline_name(recipe), _about(recipe), [_store(store)], body)


def build_package(recipe: Recipe, store: str, target: Target) -> Any:
    """Return the pipeline of a recipe for a cluster.

    Args:
        recipe: Already resolved.
        store: URI of the store; the default of the pipeline's parameter ``store``.
        target: What it is compiled for.
    """
    graph = graph_of(recipe)

    def body(values: Mapping[str, Any]) -> None:
        with _with_exit_handler(recipe, list(graph), store, values["store"], target):
            tasks: dict[str, Any] = {}
            for step in graph.values():
                sources = {i: tasks[s] for i, s in step.sources.items()}
                tasks[step.name] = _add_task(recipe, step, graph, store, values, sources, target)

    return make_pipeline(_pipeline_name(recipe), _about(recipe), parameters(graph, store), body)


def build_single(recipe: Recipe, name: str, store: str, target: Target) -> Any:
    """Return a pipeline of one step, whose inputs are parameters: the URIs of manifests.

    Args:
        recipe: Already resolved.
        name: The step.
        store: URI of the store; the default of the pipeline's parameter ``store``.
        target: What it is compiled for.
    """
    from kfp import dsl

    from omnistage.kubeflow import types

    graph = graph_of(recipe)
    step = graph[name]
    kinds = {i: graph[source].kind for i, source in step.sources.items()}

    def body(values: Mapping[str, Any]) -> None:
        with _with_exit_handler(recipe, [name], store, values["store"], target):
            imported = {
                i: dsl.importer(
                    artifact_uri=values[i],
                    artifact_class=getattr(types, kind),
                    reimport=False,
                )
                for i, kind in kinds.items()
            }
            _add_task(recipe, step, graph, store, values, imported, target)

    inputs = [
        Parameter(i, str, f"URI of the manifest of a {kind}, in S3.") for i, kind in kinds.items()
    ]
    own = source_parameter(step)
    return make_pipeline(
        f"{name.replace('_', '-')}-{recipe.name}",
        f"The step {name} alone.",
        (*inputs, *([own] if own else []), _store(store), *job_parameters(step)),
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
    """Compile the pipeline and each step alone into packages for ``kfp run create``.

    Args:
        recipe: What to compile.
        folder: Where the packages go: ``post_training.yaml`` and ``<step>.yaml``.
        store: URI of the store.
        images: ``launcher`` and ``trainer``, each pinned by digest.
        names: Names of objects in the namespace that are not the chart's own.
        first: Step to begin at; its upstream steps are taken from the store or the run fails.
        only: Which packages; by default all.
        caching: Whether KFP may skip a step that it knows; the store is asked in any case.

    Raises:
        InputError: If an image is missing or not pinned by digest, or a cluster cannot reach the
            store.
    """
    from kfp import compiler

    graph = graph_of(recipe)
    check_images(images, graph)
    check_store(store, recipe.cluster)
    recipe = recipe.resolve()
    before = needed(graph, first)[:-1] if first else ()
    target = Target(images, names or ClusterNames(), before, caching)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in only or (PIPELINE, *graph):
        if name in graph:
            pipeline = build_single(recipe, name, store, target)
        else:
            pipeline = build_package(recipe, store, target)
        path = folder / f"{name}.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        paths.append(path)
    return paths


def check_images(images: Mapping[str, str], graph: Graph) -> None:
    """Check that every image is given and pinned by digest.

    Raises:
        InputError: Saying which is missing, unknown or not pinned, and how to give it.
    """
    users = {"launcher": list(graph), "trainer": launched(graph)}
    unknown = sorted(set(images) - set(users))
    if unknown:
        raise InputError(f"image {unknown[0]!r}: no such image; there are {', '.join(users)}")
    wrong = []
    for name, steps in users.items():
        if not re.search(r"@sha256:[0-9a-f]{64}$", images.get(name, "")):
            what = "not pinned by digest" if name in images else "missing"
            wrong.append(f"{name} (for {', '.join(steps)}) is {what}")
    if wrong:
        raise InputError(
            "images are pinned by digest, since a tag may change under a cached result: "
            f"{'; '.join(wrong)}. Give each as --image NAME=REPOSITORY@sha256:…"
        )


def parameters(graph: Graph, store: str) -> tuple[Parameter, ...]:
    """Return what one may give when the whole pipeline is submitted."""
    sources = [found for step in graph.values() if (found := source_parameter(step))]
    return (*sources, _store(store), *JOB)


def _store(store: str) -> Parameter:
    return Parameter("store", str, "URI of the store.", store)


def _pipeline_name(recipe: Recipe) -> str:
    return f"{PIPELINE.replace('_', '-')}-{recipe.name}"


def _about(recipe: Recipe) -> str:
    # A text for people, where a placeholder cannot be written by its code.
    return re.sub(r"\{(?=\{)", "{ ", recipe.description or "Post-training.")


def _with_exit_handler(
    recipe: Recipe, steps: list[str], compiled: str, store: Any, target: Target
) -> Any:
    """Return the group of tasks after which the exit task runs."""
    from kfp import dsl

    from pipelines.exit_task import end_run

    last: Any = end_run(store=store, steps=",".join(steps)).set_display_name(EXIT)  # pyright: ignore[reportCallIssue]
    last.set_caching_options(False)
    image = target.images["launcher"]
    configure_task_pod(last, EXIT_NEEDS, image, compiled, recipe.cluster, target.names)
    return dsl.ExitHandler(last, name="stages")


def _add_task(
    recipe: Recipe,
    step: Step,
    graph: Graph,
    compiled: str,
    values: Mapping[str, Any],
    sources: Mapping[str, Any],
    target: Target,
) -> Any:
    """Add the task of a step as it runs on a cluster."""
    from omnistage.task.kfp_body import CACHED_ONLY_VARIABLE

    runtime = None
    if step.launched:
        settings = recipe.cluster.model_dump(mode="json", exclude_unset=True)
        runtime = {"cluster": {"image": target.images["trainer"], "settings": settings}}
    task = _task(step, graph, values, sources, runtime)
    task.set_caching_options(target.caching)
    needs = step_needs(step, recipe.cluster)
    image = target.images["launcher"]
    configure_task_pod(task, needs, image, compiled, recipe.cluster, target.names)
    if step.name in target.cached_only:
        task.set_env_variable(CACHED_ONLY_VARIABLE, step.name)
    return task


def _task(
    step: Step,
    graph: Graph,
    values: Mapping[str, Any],
    sources: Mapping[str, Any],
    runtime: Mapping[str, Any] | None,
) -> Any:
    """Add the task of a step; of the pipeline's parameters it gets those that it has a use for."""
    component = step_component(step, graph)
    arguments = {p.name: values[p.name] for p in job_parameters(step) if p.name in values}
    if step.parameter in values:
        arguments["source"] = values[step.parameter]
    if runtime is not None:
        arguments["runtime"] = _json(runtime)
    # As JSON text: KFP's own dictionaries turn every integer into a float.
    config = _json(step.config.model_dump(mode="json"))
    inputs = {name: _manifest(task) for name, task in sources.items()}
    task = component(step=step.name, config=config, store=values["store"], **arguments, **inputs)
    return task.set_display_name(step.name)


def _manifest(task: Any) -> Any:
    """Return the manifest that a task makes, or that an importer brings: its only output."""
    return task.outputs.get(RESULT) or task.output


def _json(values: Mapping[str, Any]) -> str:
    """Return JSON in which no text is a placeholder: KFP and Argo fill ``{{…}}`` anywhere.

    Two opening braces side by side are always within a string, where a code may stand for one.
    """
    text = orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()
    return text.replace("{{", r"{\u007b")
