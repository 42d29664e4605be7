"""How a stage's training job runs on a cluster: none of it decides a result."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from omnistage.errors import InputError
from omnistage.kube_names import Labels, ObjectName, QueueName
from omnistage.settings import Ask, Settings

DEFAULTS_FILE = Path("/etc/omnistage/launch.yaml")
"""Where a launcher pod finds the cluster's defaults, from the chart's ConfigMap."""
DEFAULTS_VARIABLE = "OMNISTAGE_LAUNCH_DEFAULTS"
_ASKED = {"service_account": "service_accounts", "store_secret": "secrets"}
_ENCODING_SECONDS = 2 * 86400
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|[kMGTP]i?)?$"


class NodePool(Settings):
    """Which nodes a pod may run on."""

    node_selector: Labels = Field(default={}, description="Labels that a node must have.")
    tolerations: list[dict[str, Any]] = Field(
        default=[], description="Taints that are tolerated, as in a pod."
    )
    affinity: dict[str, Any] = Field(default={}, description="Affinity, as in a pod.")


class ClaimMount(Settings):
    """A PersistentVolumeClaim mounted into every pod of a job."""

    claim: ObjectName = Field(min_length=1, description="Name of the claim.")
    mount_path: str = Field(pattern="^/", description="Where it is mounted.")
    sub_path: str = Field(default="", description="Folder of the volume; empty for its top.")
    read_only: bool = Field(default=False, description="Mount it read-only.")


class LaunchSettings(Settings):
    """How a training or evaluation stage runs on a cluster.

    The chart's ConfigMap gives a cluster's defaults, a recipe's section ``cluster`` goes over
    them, and the parameters of a submitted run go over both.
    """

    backend: Literal["pytorchjob", "trainjob"] = Field(
        default="pytorchjob",
        description="PyTorchJob of the training operator, or TrainJob of Kubeflow Trainer ≥ 2.2.",
    )
    training_runtime: ObjectName = Field(
        default="omnistage",
        description="TrainingRuntime of a TrainJob; the chart installs one of this name.",
    )
    nodes: int = Field(
        default=1, ge=1, le=1000, description="Pods of a training job; evaluation takes one."
    )
    gpus_per_node: int = Field(
        default=1, ge=1, le=64, description="GPUs of a pod, and torchrun processes in it."
    )
    gpu_resource: str = Field(
        default="nvidia.com/gpu", description="Resource name of a GPU or of a MIG slice."
    )
    node_pool: str = Field(
        default="gpu",
        description="Name in node_pools; another name is an error, empty is any node.",
    )
    node_pools: dict[str, NodePool] = Field(
        default={
            "gpu": NodePool(
                tolerations=[
                    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
                ]
            )
        },
        description="The cluster's node pools by name.",
    )
    cpu: str = Field(default="8", pattern=_QUANTITY, description="CPU cores that a pod asks for.")
    memory: str = Field(
        default="64Gi", pattern=_QUANTITY, description="Memory of a pod, shared memory included."
    )
    encoding_cpu: str = Field(
        default="8",
        pattern=_QUANTITY,
        description="CPU cores of the pod that encodes the records before a job holds GPUs; one "
        "process each.",
    )
    encoding_memory: str = Field(
        default="32Gi", pattern=_QUANTITY, description="Memory of that pod."
    )
    encoding_pool: str = Field(
        default="", description="Name in node_pools for that pod; empty is any node."
    )
    shm: str = Field(
        default="16Gi",
        pattern=_QUANTITY,
        description="Size of the memory-backed /dev/shm; it counts against memory.",
    )
    scratch: str = Field(
        default="500Gi",
        pattern=_QUANTITY,
        description="Node-local disk of a pod for models, media and checkpoints.",
    )
    rdma: dict[str, int] = Field(
        default={}, description="RDMA devices of a pod, such as {rdma/ib: 8}; adds IPC_LOCK."
    )
    env: dict[str, str] = Field(
        default={}, description="Variables of every pod, such as NCCL_SOCKET_IFNAME; no secrets."
    )
    queue: QueueName = Field(default="", description="Kueue LocalQueue; empty for none.")
    scheduler: ObjectName = Field(
        default="",
        description="Gang scheduler of the pods, such as volcano; empty for the default one.",
    )
    priority_class: ObjectName = Field(
        default="", description="PriorityClass; empty for the cluster's default."
    )
    service_account: ObjectName = Field(
        default="omnistage-trainer", description="ServiceAccount of the pods."
    )
    store_secret: ObjectName = Field(
        default="omnistage-store",
        description="Secret whose keys become variables of the pods: the store's credentials. "
        "Empty where the store is a volume or the nodes have an identity of their own.",
    )
    store_config: ObjectName = Field(
        default="omnistage-store",
        description="ConfigMap whose keys become variables of the pods, such as "
        "AWS_ENDPOINT_URL_S3; empty for none.",
    )
    image_pull_secrets: list[str] = Field(default=[], description="Secrets of the registry.")
    volumes: list[ClaimMount] = Field(default=[], description="Further volumes of every pod.")
    run_as_user: int = Field(default=65532, ge=1, description="User id of the processes.")
    queue_timeout: float = Field(
        default=86400, gt=0, description="Seconds a job may wait for a queue or for free nodes."
    )
    start_timeout: float = Field(
        default=1800,
        gt=0,
        description="Seconds from the first pod on a node to all pods running: image pulls.",
    )
    run_timeout: int = Field(
        default=7 * 86400, gt=0, description="Seconds a job may run (activeDeadlineSeconds)."
    )
    silence_timeout: float = Field(
        default=3600, gt=0, description="Seconds without a line from any pod before a job is ended."
    )
    stop_timeout: int = Field(
        default=20,
        ge=1,
        description="Seconds that a pod gets to end when its job is cancelled; a checkpoint that "
        "is not saved by then is dropped. A TrainJob takes it from its TrainingRuntime.",
    )
    ttl: int = Field(
        default=86400, ge=0, description="Seconds a finished job is kept (ttlSecondsAfterFinished)."
    )
    retries: int = Field(
        default=3, ge=0, description="Restarts of the whole gang after transient errors."
    )
    retry_delay: float = Field(
        default=30, ge=0, description="Seconds before the first restart; doubled each time."
    )

    def asks(self) -> list[Ask]:
        """Return the objects and variables that were set, without what is so by default."""
        given = self.model_fields_set
        found = [Ask("env", n, f"env.{n}") for n in self.env if "env" in given]
        for name in {"service_account", "store_secret"} & given:
            found.append(Ask(_ASKED[name], getattr(self, name), name))
        found += [Ask("secrets", n, "image_pull_secrets") for n in self.image_pull_secrets]
        found += [Ask("claims", v.claim, "volumes") for v in self.volumes]
        return [ask for ask in found if ask.name]

    def for_encoding(self) -> "LaunchSettings":
        """Return the settings of the job that encodes the records: one pod without a GPU."""
        return self.model_copy(
            update={
                "nodes": 1,
                "gpus_per_node": 0,
                "rdma": {},
                "cpu": self.encoding_cpu,
                "memory": self.encoding_memory,
                "node_pool": self.encoding_pool,
                "run_timeout": min(self.run_timeout, _ENCODING_SECONDS),
            }
        )

    def pool(self) -> NodePool:
        """Return the chosen node pool.

        Raises:
            InputError: If no pool has that name.
        """
        if not self.node_pool:
            return NodePool()
        if self.node_pool not in self.node_pools:
            raise InputError(
                f"cluster.node_pool: no pool {self.node_pool!r}; this cluster has "
                f"{', '.join(self.node_pools) or 'none'} (cluster.node_pools, or the chart's "
                "value nodePools)"
            )
        return self.node_pools[self.node_pool]


def merge_settings(*layers: Mapping[str, Any]) -> LaunchSettings:
    """Return settings in which later layers go over earlier ones, a field at a time.

    Raises:
        InputError: Naming the wrong field.
    """
    from omnistage.settings import parse_config

    merged = {name: value for layer in layers for name, value in layer.items()}
    return parse_config(LaunchSettings, merged, "cluster")


def cluster_defaults() -> dict[str, Any]:
    """Return the cluster's own defaults: the file of the chart's ConfigMap, if there is one.

    Raises:
        InputError: If the file is not a YAML mapping.
    """
    path = Path(os.environ.get(DEFAULTS_VARIABLE) or DEFAULTS_FILE)
    return parse_defaults(path.read_text(), str(path)) if path.is_file() else {}


def parse_defaults(text: str, where: str) -> dict[str, Any]:
    """Return the cluster's own defaults from YAML.

    Args:
        text: A mapping of settings, or nothing.
        where: What the text is from, for errors.

    Raises:
        InputError: If it is not a YAML mapping.
    """
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as e:
        raise InputError(f"{where}: not YAML: {e}") from e
    if not isinstance(values, dict):
        raise InputError(
            f"{where}: expected a mapping of settings, as in a recipe's cluster section"
        )
    return values
