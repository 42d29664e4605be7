"""A stage as a training job on a cluster: what a launcher does instead of running it itself."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson
from pydantic import BaseModel

from omnistage.cluster.api import CONFIG_MAPS, WORKFLOWS, Api
from omnistage.cluster.gang import run_gang
from omnistage.cluster.jobs.job import ClusterJob
from omnistage.cluster.settings import (
    DEFAULTS_FILE,
    LaunchSettings,
    cluster_defaults,
    merge_settings,
    parse_defaults,
)
from omnistage.errors import InputError, StageFailedError
from omnistage.events import Events
from omnistage.stage.contract import ClusterRuntime, Stage, TaskRuntime
from omnistage.stage.execute import context_of
from omnistage.stage.key import KeyParts
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.store.uris import manifest_uri

RUN_VARIABLE = "OMNISTAGE_RUN_ID"
WORKFLOW_VARIABLE = "OMNISTAGE_WORKFLOW"


def read_defaults(api: Api, namespace: str, config_map: str) -> dict[str, Any]:
    """Return a cluster's own settings of jobs as a launcher pod has them.

    They come from the file that the chart mounts into launcher pods or, where that is not, from
    the ConfigMap that this file is made from.

    Args:
        api: The cluster.
        namespace: That has the ConfigMap.
        config_map: Name of the ConfigMap.

    Raises:
        InputError: If they are not a YAML mapping.
        ApiError: If the cluster refuses to show them.
    """
    found = cluster_defaults()
    if found:
        return found
    read = api.get(CONFIG_MAPS, namespace, config_map) or {}
    text = read.get("data", {}).get(DEFAULTS_FILE.name, "")
    return parse_defaults(text, f"ConfigMap {config_map}, {DEFAULTS_FILE.name}")


def launch_settings(
    cluster: ClusterRuntime, stage: Stage[Any], defaults: Mapping[str, Any] | None
) -> LaunchSettings:
    """Return the settings of a stage's job: the cluster's defaults, then the run's own.

    Args:
        cluster: The run's own.
        stage: Says how many nodes it may take.
        defaults: The cluster's own; by default from the file of a launcher pod.

    Raises:
        InputError: Naming the wrong field.
    """
    own = cluster_defaults() if defaults is None else defaults
    settings = merge_settings(own, cluster.settings)
    nodes = min(settings.nodes, stage.max_nodes or settings.nodes)
    return settings.model_copy(update={"nodes": nodes})


def stage_job(
    stage: Stage[Any],
    config: BaseModel,
    inputs: Mapping[str, Manifest],
    store: str,
    parts: KeyParts,
    cluster: ClusterRuntime,
    *,
    namespace: str,
    run: str = "",
    owner: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    prepare: bool = False,
) -> ClusterJob:
    """Return the job that makes a stage's output: every pod enters the stage contract.

    Args:
        stage: The stage.
        config: Its settings.
        inputs: A manifest for each input.
        store: URI of the store.
        parts: What the stage key is computed from; a pod that computes another one stops.
        cluster: Image and settings.
        namespace: Where the job runs.
        run: Id of the run that waits for it.
        owner: Owner reference of the job.
        defaults: See :func:`launch_settings`.
        prepare: Whether the job is that of its preparation, which holds no GPU.

    Raises:
        InputError: If a setting is wrong, or the store is a folder that the pods do not mount.
    """
    settings = launch_settings(cluster, stage, defaults)
    if not (remote := store.startswith("s3://")) and not settings.volumes:
        raise InputError(
            f"store {store}: pods cannot see a folder; use s3://…, or mount its volume "
            "(cluster.volumes, or the chart's value store.volume)"
        )
    spec: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "key": parts.model_dump(),
        "inputs": {name: manifest_uri(manifest) for name, manifest in inputs.items()},
        "store": store,
        "runtime": {
            "nproc_per_node": settings.gpus_per_node,
            "keep_checkpoints": remote or settings.nodes > 1,
        },
        **({"prepare": True} if prepare else {}),
    }
    text = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS).decode()
    return ClusterJob(
        stage=f"{stage.name}_encode" if prepare else stage.name,
        key=parts.key,
        image=cluster.image,
        command=("python", "-m", stage.program, "--spec", text),
        settings=settings.for_encoding() if prepare else settings,
        namespace=namespace,
        run=run,
        owner=owner,
    )


def launch_stage(
    stage: Stage[Any],
    config: BaseModel,
    inputs: Mapping[str, Manifest],
    store: Store,
    parts: KeyParts,
    events: Events,
    *,
    cluster: ClusterRuntime,
    defaults: Mapping[str, Any] | None = None,
) -> Manifest:
    """Run a stage as a job, follow it to its end and return what it put into the store.

    What the stage prepares on CPUs is done first, in a job of its own that holds no GPU.

    The run's id and its Workflow, which becomes the job's owner, come from the variables
    ``OMNISTAGE_RUN_ID`` and ``OMNISTAGE_WORKFLOW``.

    Args:
        stage: The stage.
        config: Its settings.
        inputs: A manifest for each input.
        store: Where the result goes.
        parts: What the stage key is computed from.
        events: Where progress goes.
        cluster: Image and settings.
        defaults: See :func:`launch_settings`.

    Raises:
        InputError: If the job can never run or its stage found its input wrong.
        StageFailedError: If it failed.
    """
    api = Api.connect()
    namespace = api.own_namespace()
    workflow = os.environ.get(WORKFLOW_VARIABLE, "")
    job = partial(
        stage_job,
        stage,
        config,
        inputs,
        store.uri,
        parts,
        cluster,
        namespace=namespace,
        run=os.environ.get(RUN_VARIABLE, ""),
        owner=_owner(api, namespace, workflow) if workflow else None,
        defaults=defaults,
    )
    if stage.preparation:
        context = context_of(stage, config, inputs, store, parts.key, TaskRuntime(), events)
        if stage.preparation.needed(context):
            run_gang(job(prepare=True), api, events)
    run_gang(job(), api, events)
    manifest = store.find(stage.name, parts.key)
    if manifest is None:
        raise StageFailedError(
            f"job {job().name} succeeded, but {store.uri} has no result {parts.key}: do the "
            "pods write to the same store (Secret, ConfigMap and volumes of cluster settings)?"
        )
    return manifest


def _owner(api: Api, namespace: str, workflow: str) -> dict[str, Any] | None:
    """Return the owner reference to a run's Workflow, with which the job goes in the end."""
    found = api.get(WORKFLOWS, namespace, workflow)
    if found is None:
        return None
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "name": workflow,
        "uid": found["metadata"]["uid"],
        "controller": False,
        "blockOwnerDeletion": False,
    }
