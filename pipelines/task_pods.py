"""The pod of each task in a compiled package: resources, time-out, Secrets by name, volumes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omnistage.cluster.jobs.pod import CONFIG_KEYS, SECRET_KEYS
from omnistage.cluster.launch import RUN_VARIABLE, WORKFLOW_VARIABLE
from omnistage.cluster.settings import DEFAULTS_FILE, LaunchSettings
from omnistage.errors import InputError
from omnistage.recipe.errors import SIGNED_VARIABLE
from omnistage.stage.contract import LAUNCHER, Resources
from omnistage.store.uris import NAMESPACE_VARIABLE, SECRET_VARIABLE, uri_path
from omnistage.task.run_record import POD_VARIABLE
from pipelines.graph import Step

HUB_SECRET_KEYS = ("HF_TOKEN", "MODELSCOPE_API_TOKEN", SIGNED_VARIABLE)
HUB_CONFIG_KEYS = ("HF_ENDPOINT", "OMNISTAGE_REFUSED_NETWORKS")
STORE_MOUNT = "/store"
"""Where the claim of a store on a volume is mounted."""
_SETTLE = 3600
"""Seconds beyond a job's own time-outs: retries, and putting its result into the store."""


@dataclass(frozen=True)
class TaskNeeds:
    """What a task needs of its pod."""

    timeout: int
    """Seconds."""
    resources: Resources = LAUNCHER
    hub: bool = False
    """Whether it gets the Secret of the hubs."""


EXIT_NEEDS = TaskNeeds(3600)
"""Of the exit task."""


def step_needs(step: Step, settings: LaunchSettings) -> TaskNeeds:
    """Return what the task of a step needs; a launcher's time-out covers those of its jobs."""
    stage = step.stage
    if not step.launched:
        return TaskNeeds(stage.timeout, stage.resources, hub=bool(stage.source))
    jobs = [settings, *([settings.for_encoding()] if stage.preparation else [])]
    seconds = sum(s.queue_timeout + s.start_timeout + s.run_timeout for s in jobs)
    return TaskNeeds(round(seconds) + _SETTLE, hub=bool(stage.source))


@dataclass(frozen=True)
class ClusterNames:
    """Names of objects in the namespace that no setting of a job has."""

    hub_secret: str = "omnistage-hub"
    launch_config: str = "omnistage-launch"
    store_claim: str = "omnistage-store"


def configure_task_pod(
    task: Any,
    needs: TaskNeeds,
    image: str,
    store: str,
    settings: LaunchSettings,
    names: ClusterNames,
) -> None:
    """Give a task its image and its pod's settings.

    Args:
        task: A task of Kubeflow Pipelines.
        needs: What it needs.
        image: Of its container.
        store: URI of the store when the package is compiled: a folder is mounted.
        settings: The recipe's launch settings.
        names: Names of objects in the namespace.
    """
    from kfp import kubernetes

    task.set_container_image(image)
    resources = needs.resources
    task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu_limit)
    task.set_memory_request(resources.memory).set_memory_limit(resources.memory_limit)
    kubernetes.set_timeout(task, needs.timeout)
    kubernetes.set_security_context(
        task,
        run_as_non_root=True,
        run_as_user=settings.run_as_user,
        run_as_group=settings.run_as_user,
    )
    kubernetes.add_pod_label(task, "app.kubernetes.io/name", "omnistage")
    kubernetes.add_pod_label(task, "app.kubernetes.io/component", "launcher")
    if settings.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, settings.image_pull_secrets)
    _set_environment(task, needs, settings, names)
    _mount(task, store, settings, names)


def check_store(store: str, settings: LaunchSettings) -> None:
    """Check that the tasks and jobs of a run can reach a store.

    Raises:
        InputError: If it is a folder that no claim is mounted at.
    """
    if store.startswith("s3://") or _covered(store, settings):
        return
    if not uri_path(store).is_relative_to(STORE_MOUNT):
        raise InputError(
            f"store {store}: a cluster does not have this folder. Give --store s3://bucket/prefix, "
            f"or --store file://{STORE_MOUNT} for the claim that the chart makes, or mount a claim "
            "there by cluster.volumes"
        )


def _set_environment(
    task: Any, needs: TaskNeeds, settings: LaunchSettings, names: ClusterNames
) -> None:
    from kfp import kubernetes

    task.set_env_variable("HOME", "/tmp").set_env_variable("OMNISTAGE_SCRATCH", "/scratch")
    for variable, path in (
        (RUN_VARIABLE, "metadata.labels['pipeline/runid']"),
        (WORKFLOW_VARIABLE, "metadata.labels['workflows.argoproj.io/workflow']"),
        (POD_VARIABLE, "metadata.name"),
        (NAMESPACE_VARIABLE, "metadata.namespace"),
    ):
        kubernetes.use_field_path_as_env(task, variable, path)
    if settings.store_config:
        kubernetes.use_config_map_as_env(
            task, settings.store_config, _same((*CONFIG_KEYS, *HUB_CONFIG_KEYS)), optional=True
        )
    if settings.store_secret:
        task.set_env_variable(SECRET_VARIABLE, settings.store_secret)
        kubernetes.use_secret_as_env(task, settings.store_secret, _same(SECRET_KEYS), optional=True)
    if needs.hub:
        kubernetes.use_secret_as_env(task, names.hub_secret, _same(HUB_SECRET_KEYS), optional=True)


def _mount(task: Any, store: str, settings: LaunchSettings, names: ClusterNames) -> None:
    from kfp import kubernetes

    kubernetes.empty_dir_mount(task, "tmp", "/tmp")
    kubernetes.empty_dir_mount(task, "scratch", "/scratch")
    kubernetes.use_config_map_as_volume(
        task, names.launch_config, str(DEFAULTS_FILE.parent), optional=True
    )
    for volume in settings.volumes:
        kubernetes.mount_pvc(task, volume.claim, volume.mount_path, volume.sub_path)
    if not store.startswith("s3://") and not _covered(store, settings):
        kubernetes.mount_pvc(task, names.store_claim, STORE_MOUNT)


def _covered(store: str, settings: LaunchSettings) -> bool:
    return any(uri_path(store).is_relative_to(v.mount_path) for v in settings.volumes)


def _same(keys: Sequence[str]) -> dict[str, str]:
    return {key: key for key in keys}
