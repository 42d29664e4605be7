"""One step as a training job, from a laptop with a kubeconfig: ``omnistage launch``."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from omnistage.cluster.api import Api
from omnistage.cluster.jobs.backends import backend_of
from omnistage.cluster.launch import launch_stage, read_defaults, stage_job
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.stage.contract import ClusterRuntime
from omnistage.stage.execute import execute
from omnistage.stage.key import input_digests, key_parts
from omnistage.store.manifest import Manifest
from omnistage.store.open import open_store
from pipelines.graph import Step, graph_of, launched
from pipelines.plan import stored_inputs
from pipelines.recipe import Recipe


def render_step(
    recipe: Recipe, name: str, store: str, image: str, launch_config: str
) -> dict[str, Any]:
    """Return the exact manifest of the job that would be created for a step.

    Without a kubeconfig it is that of a cluster that has no settings of its own.

    Args:
        recipe: What is run.
        name: The step: one that is a training job.
        store: URI of the store that has the step's inputs.
        image: The trainer's.
        launch_config: Name of the ConfigMap with the cluster's own settings.

    Raises:
        InputError: If an input is not in the store, or a setting is wrong.
    """
    step, inputs = _step(recipe, name, store)
    try:
        api = Api.connect()
    except InputError:
        api = None
    job = stage_job(
        step.stage,
        step.config,
        inputs,
        store,
        key_parts(step.stage, step.config, input_digests(step.stage, inputs)),
        _runtime(recipe, image),
        namespace=api.own_namespace() if api else "default",
        defaults=_defaults(api, launch_config) if api else None,
    )
    return backend_of(job.settings).render(job)


def launch_step(recipe: Recipe, name: str, store: str, image: str, launch_config: str) -> Manifest:
    """Run a step as a job, follow it to its end and return its result; a stored one is taken.

    Args:
        recipe: What is run.
        name: The step: one that is a training job.
        store: URI of the store, under which the pods know it too.
        image: The trainer's.
        launch_config: Name of the ConfigMap with the cluster's own settings.

    Raises:
        InputError: If an input is not in the store, or the job can never run.
        StageFailedError: If it failed.
    """
    step, inputs = _step(recipe, name, store)
    return execute(
        step.stage,
        step.config,
        inputs,
        open_store(store),
        events=Events(name),
        launch=partial(
            launch_stage,
            cluster=_runtime(recipe, image),
            defaults=_defaults(Api.connect(), launch_config),
        ),
    ).manifest


def _step(recipe: Recipe, name: str, store: str) -> tuple[Step, Mapping[str, Manifest]]:
    graph = graph_of(recipe.resolve())
    if not graph[name].launched:
        raise InputError(f"{name}: not a training job; those are {', '.join(launched(graph))}")
    return graph[name], stored_inputs(graph, name, open_store(store))


def _runtime(recipe: Recipe, image: str) -> ClusterRuntime:
    settings = recipe.cluster.model_dump(mode="json", exclude_unset=True)
    return ClusterRuntime(image=image, settings=settings)


def _defaults(api: Api, launch_config: str) -> dict[str, Any]:
    return read_defaults(api, api.own_namespace(), launch_config)
