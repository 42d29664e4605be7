"""The pods of a training job: what every back end gives each of them."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from omnistage.cluster.jobs.job import (
    ATTEMPT_LABEL,
    HASH_ANNOTATION,
    KEY_LABEL,
    RUNS_ANNOTATION,
    STAGE_LABEL,
    ClusterJob,
)
from omnistage.store.uris import NAMESPACE_VARIABLE, SECRET_VARIABLE

SCRATCH = "/scratch"
TERMINATION_VARIABLE = "OMNISTAGE_TERMINATION_LOG"
"""Tells the program of a pod where its error report goes."""
TERMINATION_LOG = "/dev/termination-log"
"""File of a pod that the kubelet makes its termination message of; at most 4 KB."""
SECRET_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Keys of the store's Secret that become variables, where it has them."""
CONFIG_KEYS = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
)
"""Keys of the store's ConfigMap that become variables, where it has them."""


def labels(job: ClusterJob) -> dict[str, str]:
    """Return the labels of a job and of its pods."""
    return {
        "app.kubernetes.io/name": "omnistage",
        "app.kubernetes.io/component": "trainer",
        STAGE_LABEL: job.stage,
        KEY_LABEL: job.key,
        ATTEMPT_LABEL: str(job.attempt),
    }


def metadata(job: ClusterJob) -> dict[str, Any]:
    """Return the metadata of a job, without the annotation of its hash."""
    found: dict[str, Any] = {
        "name": job.name,
        "namespace": job.namespace,
        "labels": labels(job),
        "annotations": {RUNS_ANNOTATION: job.run},
    }
    if job.settings.queue:
        found["labels"]["kueue.x-k8s.io/queue-name"] = job.settings.queue
    if job.owner:
        found["ownerReferences"] = [dict(job.owner)]
    return found


def with_hash(manifest: dict[str, Any]) -> dict[str, Any]:
    """Add the annotation by which a launcher knows a job as its own: a sha256 over the spec.

    Who waits for the job, who owns it and which attempt it is do not count.
    """
    text = orjson.dumps(manifest["spec"], option=orjson.OPT_SORT_KEYS).decode()
    attempt = manifest["metadata"]["labels"][ATTEMPT_LABEL]
    text = text.replace(f'"{ATTEMPT_LABEL}":"{attempt}"', "")
    annotations = manifest["metadata"]["annotations"]
    annotations[HASH_ANNOTATION] = hashlib.sha256(text.encode()).hexdigest()[:32]
    return manifest


def pod_metadata(job: ClusterJob) -> dict[str, Any]:
    """Return labels and annotations of the pods: no Istio sidecar, which would outlive training."""
    return {"labels": labels(job), "annotations": {"sidecar.istio.io/inject": "false"}}


def environment(job: ClusterJob) -> list[dict[str, Any]]:
    """Return the variables of a pod: the settings' own, and the store's from Secret and ConfigMap.

    They are named one by one: a Secret's other keys stay where they are.
    """
    settings = job.settings
    own = {
        "HOME": "/tmp",
        TERMINATION_VARIABLE: TERMINATION_LOG,
        NAMESPACE_VARIABLE: job.namespace,
        **({SECRET_VARIABLE: settings.store_secret} if settings.store_secret else {}),
        "OMNISTAGE_SCRATCH": SCRATCH,
        "PYTHONUNBUFFERED": "1",
        "NCCL_DEBUG": "WARN",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        **settings.env,
    }
    found: list[dict[str, Any]] = [{"name": n, "value": v} for n, v in own.items()]
    for source, name, keys in (
        ("secretKeyRef", settings.store_secret, SECRET_KEYS),
        ("configMapKeyRef", settings.store_config, CONFIG_KEYS),
    ):
        for key in keys if name else ():
            reference = {"name": name, "key": key, "optional": True}
            found.append({"name": key, "valueFrom": {source: reference}})
    return found


def resources(job: ClusterJob) -> dict[str, Any]:
    """Return requests and limits of a pod.

    Memory and devices are limited to what is asked for; the CPU is not, because a throttled thread
    of NCCL or of a data worker makes the GPUs of the whole gang wait.
    """
    settings = job.settings
    limits = {
        "memory": settings.memory,
        **({settings.gpu_resource: str(gpus)} if (gpus := settings.gpus_per_node) else {}),
        **{name: str(count) for name, count in settings.rdma.items()},
    }
    return {"requests": {"cpu": settings.cpu, **limits}, "limits": limits}


def volumes(job: ClusterJob) -> list[dict[str, Any]]:
    """Return a pod's volumes: shared memory, scratch disk, /tmp and the settings' claims."""
    settings = job.settings
    found: list[dict[str, Any]] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": settings.shm}},
        {"name": "scratch", "emptyDir": {"sizeLimit": settings.scratch}},
        {"name": "tmp", "emptyDir": {}},
    ]
    for claim in dict.fromkeys(v.claim for v in settings.volumes):
        found.append({"name": f"claim-{claim}", "persistentVolumeClaim": {"claimName": claim}})
    return found


def volume_mounts(job: ClusterJob) -> list[dict[str, Any]]:
    """Return where the volumes are mounted."""
    found: list[dict[str, Any]] = [
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "scratch", "mountPath": SCRATCH},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    for mount in job.settings.volumes:
        entry: dict[str, Any] = {"name": f"claim-{mount.claim}", "mountPath": mount.mount_path}
        if mount.sub_path:
            entry["subPath"] = mount.sub_path
        if mount.read_only:
            entry["readOnly"] = True
        found.append(entry)
    return found


def pod_security(job: ClusterJob) -> dict[str, Any]:
    """Return the pod's security context, as the restricted pod standard wants it."""
    user = job.settings.run_as_user
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security(job: ClusterJob) -> dict[str, Any]:
    """Return the container's security context.

    RDMA needs IPC_LOCK, which the restricted standard does not allow: with ``rdma`` set the
    namespace has to enforce *privileged* or make an exception.
    """
    capabilities: dict[str, Any] = {"drop": ["ALL"]}
    if job.settings.rdma:
        capabilities["add"] = ["IPC_LOCK"]
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": capabilities,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def placement(job: ClusterJob) -> dict[str, Any]:
    """Return node selector, tolerations and affinity of the node pool, those that are set."""
    pool: Mapping[str, Any] = job.settings.pool().model_dump(mode="json")
    keys = {"node_selector": "nodeSelector", "tolerations": "tolerations", "affinity": "affinity"}
    return {target: pool[name] for name, target in keys.items() if pool[name]}


def pull_secrets(job: ClusterJob) -> dict[str, Any]:
    """Return the registry's secrets as a pod names them, if there are any."""
    names = job.settings.image_pull_secrets
    return {"imagePullSecrets": [{"name": name} for name in names]} if names else {}
