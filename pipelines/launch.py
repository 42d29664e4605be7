"""One stage as a training job, from a laptop with a kubeconfig: ``omnistage launch``."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omnistage.cluster.api import Api, Resource
from omnistage.cluster.backends import backend_of
from omnistage.cluster.launch import stage_job
from omnistage.cluster.settings import DEFAULTS_FILE, DEFAULTS_VARIABLE
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.stage.contract import ClusterRuntime, TaskRuntime
from omnistage.stage.execute import execute
from omnistage.stage.key import stage_key
from omnistage.store.manifest import Manifest
from omnistage.store.open import open_store
from omnistage.store.uris import manifest_uri
from pipelines.graph import LAUNCHED, STAGES
from pipelines.plan import stored_inputs
from pipelines.recipe import Recipe, config_of, resolve

CONFIG_MAPS = Resource("", "v1", "configmaps")


def render_stage(
    recipe: Recipe, name: str, store: str, image: str, launch_config: str
) -> dict[str, Any]:
    """Return the exact manifest of the job that would be created for a stage.

    Without a kubeconfig it is that of a cluster that has no settings of its own.

    Args:
        recipe: What is run.
        name: The stage: sft, grpo or eval.
        store: URI of the store that has the stage's inputs.
        image: The trainer's.
        launch_config: Name of the ConfigMap with the cluster's own settings.

    Raises:
        InputError: If an input is not in the store, or a setting is wrong.
    """
    recipe, inputs = _inputs(recipe, name, store)
    try:
        api = Api.connect()
    except InputError:
        api = None
    with _cluster_settings(api, launch_config):
        key = stage_key(
            STAGES[name], config_of(recipe, name), {i: m.digest for i, m in inputs.items()}
        )
        job = stage_job(
            STAGES[name],
            config_of(recipe, name),
            inputs,
            store,
            key,
            _runtime(recipe, image),
            namespace=api.own_namespace() if api else "default",
        )
        return backend_of(job.settings).render(job)


def launch_stage(recipe: Recipe, name: str, store: str, image: str, launch_config: str) -> Manifest:
    """Run a stage as a job, follow it to its end and return its result; a stored one is taken.

    Args:
        recipe: What is run.
        name: The stage: sft, grpo or eval.
        store: URI of the store, under which the pods know it too.
        image: The trainer's.
        launch_config: Name of the ConfigMap with the cluster's own settings.

    Raises:
        InputError: If an input is not in the store, or the job can never run.
        StageFailedError: If it failed.
    """
    recipe, inputs = _inputs(recipe, name, store)
    with _cluster_settings(Api.connect(), launch_config):
        outcome = execute(
            STAGES[name],
            config_of(recipe, name),
            inputs,
            open_store(store),
            runtime=TaskRuntime(cluster=_runtime(recipe, image)),
            events=Events(name),
        )
    return outcome.manifest


def input_uris(recipe: Recipe, name: str, store: str) -> dict[str, str]:
    """Return the URI of the manifest of each input of a stage, as its own package takes them.

    Args:
        recipe: What is run.
        name: The stage.
        store: URI of the store that has them.

    Raises:
        InputError: If one is not in the store.
    """
    found = stored_inputs(resolve(recipe), name, open_store(store))
    return {i: manifest_uri(manifest) for i, manifest in found.items()}


def _inputs(recipe: Recipe, name: str, store: str) -> tuple[Recipe, Mapping[str, Manifest]]:
    if name not in LAUNCHED:
        raise InputError(f"{name}: not a training job; those are {', '.join(LAUNCHED)}")
    recipe = resolve(recipe)
    return recipe, stored_inputs(recipe, name, open_store(store))


def _runtime(recipe: Recipe, image: str) -> ClusterRuntime:
    settings = recipe.cluster.model_dump(mode="json", exclude_unset=True)
    return ClusterRuntime(image=image, settings=settings)


@contextmanager
def _cluster_settings(api: Api | None, launch_config: str) -> Iterator[None]:
    """Take the settings that a launcher pod has from the chart's ConfigMap from there."""
    if api is None or os.environ.get(DEFAULTS_VARIABLE) or DEFAULTS_FILE.is_file():
        yield
        return
    found = api.get(CONFIG_MAPS, api.own_namespace(), launch_config)
    text = (found or {}).get("data", {}).get(DEFAULTS_FILE.name, "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DEFAULTS_FILE.name
        path.write_text(text)
        os.environ[DEFAULTS_VARIABLE] = str(path)
        try:
            yield
        finally:
            del os.environ[DEFAULTS_VARIABLE]
