"""The operators that launch jobs, at pinned versions, from their own manifests and charts.

Their images carry the names that upstream gives them, so that charts which pull them from a
registry install on this cluster unchanged.
"""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.on_cluster.harness import images, machine, tools
from tests.on_cluster.harness.cluster import Cluster, ClusterError, say
from tests.on_cluster.harness.components import CPU_NODE

TRAINING_OPERATOR_IMAGE = "ghcr.io/kubeflow/training-v1/training-operator:v1-93c5489"
JOBSET_IMAGE = "registry.k8s.io/jobset/jobset:v0.12.0"
TRAINER_IMAGE = "ghcr.io/kubeflow/trainer/trainer-controller-manager:v2.3.0"
KUEUE_IMAGE = "registry.k8s.io/kueue/kueue:v0.14.0"

# The operator's own template has no security context, so that a namespace which enforces the
# restricted pod standard refuses every Worker pod. The operator reads this one instead.
INIT_CONTAINER = """\
- name: init-pytorch
  image: {{.InitContainerImage}}
  imagePullPolicy: IfNotPresent
  resources:
    limits: {cpu: 100m, memory: 20Mi}
    requests: {cpu: 50m, memory: 10Mi}
  securityContext:
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
    readOnlyRootFilesystem: true
  command:
  - sh
  - -c
  - >-
    err=1; for i in $(seq {{.MaxTries}}); do
    if nslookup {{.MasterAddr}}; then err=0 && break; fi; echo waiting for master; sleep 2;
    done; exit $err
"""


def install(cluster: Cluster, name: str) -> None:
    """Install an operator with its images, unless it is there, and wait until it answers.

    Raises:
        ClusterError: If it cannot be installed or does not answer within 3 minutes.
    """
    put_up, sample = _OPERATORS[name]
    begin = time.monotonic()
    with (machine.ROOT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _refusal(cluster, sample):
            return
        load_image(name)
        put_up(cluster)
        try:
            cluster.wait("its webhook answers", lambda: not _refusal(cluster, sample), 180)
        except ClusterError as e:
            raise ClusterError(f"{name}: {e}; last: {_refusal(cluster, sample)}") from e
    say(f"{name} installed", begin)


def require_known(names: list[str]) -> None:
    """Make sure that there are operators of these names.

    Raises:
        ClusterError: Naming those that there are.
    """
    for name in names:
        if name not in _OPERATORS:
            raise ClusterError(f"no operator {name!r}; there are {', '.join(_OPERATORS)}")


def load_image(name: str) -> None:
    """Import an operator's image into the node of the CPU pool, under upstream's name."""
    for program, image in _IMAGES[name].items():
        built = images.program_image(image, tools.binaries() / program, "/manager")
        images.load(built.archive(), [CPU_NODE])


def _refusal(cluster: Cluster, sample: dict[str, Any]) -> str:
    """Return why an object of the operator is not taken; empty once its webhook has taken it."""
    try:
        cluster.kubectl("create", "--dry-run=server", "-f", "-", text=yaml.safe_dump(sample))
    except ClusterError as e:
        return str(e)
    return ""


def _training_operator(cluster: Cluster) -> None:
    folder = tools.manifests("training-operator") / "manifests/overlays/standalone"
    objects = list(yaml.safe_load_all(cluster.kubectl("kustomize", str(folder))))
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "training-operator-config", "namespace": "kubeflow"},
        "data": {"initContainer.yaml": INIT_CONTAINER},
    }
    for one in objects:
        if one["kind"] == "Deployment":
            pod = one["spec"]["template"]["spec"]
            pod["volumes"].append(
                {"name": "config", "configMap": {"name": config["metadata"]["name"]}}
            )
            container = pod["containers"][0]
            container["args"] = [f"--pytorch-init-container-image={images.NSLOOKUP}"]
            container["volumeMounts"].append(
                {"name": "config", "mountPath": "/etc/config", "readOnly": True}
            )
    first = [one for one in objects if one["kind"] in ("Namespace", "CustomResourceDefinition")]
    cluster.apply(*first)
    cluster.apply(*(one for one in objects if one not in first), config)


def _trainer(cluster: Cluster) -> None:
    cluster.helm(
        *("upgrade", "--install", "jobset", str(tools.manifests("jobset") / "charts/jobset")),
        *("--namespace", "jobset-system", "--create-namespace", "--wait", "--timeout", "5m"),
        *_values(JOBSET_IMAGE, "image"),
        *("--set", "image.pullPolicy=IfNotPresent"),
        *("--set", "controller.resources.requests.cpu=50m"),
    )
    trainer = tools.manifests("trainer")
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(folder, "kubeflow-trainer")
        shutil.copytree(trainer / "charts/kubeflow-trainer", chart)
        described = yaml.safe_load((chart / "Chart.yaml").read_text())
        del described["dependencies"]  # of a registry; JobSet is installed by itself
        (chart / "Chart.yaml").write_text(yaml.safe_dump(described))
        cluster.helm(
            *("upgrade", "--install", "trainer", str(chart)),
            *("--namespace", "kubeflow-system", "--create-namespace", "--timeout", "5m"),
            *("--wait", "--set", "jobset.install=false"),
        )
    runtime = trainer / "manifests/base/runtimes/torch_distributed.yaml"
    described = yaml.safe_load(runtime.read_text())
    cluster.wait("Trainer's webhook answers", lambda: not _refusal(cluster, described), 180)
    cluster.apply(described)


def _kueue(cluster: Cluster) -> None:
    cluster.helm(
        *("upgrade", "--install", "kueue", str(tools.manifests("kueue") / "charts/kueue")),
        *("--namespace", "kueue-system", "--create-namespace", "--wait", "--timeout", "5m"),
        *_values(KUEUE_IMAGE, "controllerManager.manager.image"),
        *("--set", "controllerManager.manager.image.pullPolicy=IfNotPresent"),
        *("--set", "controllerManager.manager.resources.requests.cpu=50m"),
    )
    # While an aggregated API does not answer, no namespace can be deleted.
    cluster.kubectl(
        *("wait", "apiservice/v1beta1.visibility.kueue.x-k8s.io"),
        *("--for=condition=Available", "--timeout=120s"),
    )


def _values(image: str, at: str) -> list[str]:
    repository, tag = image.rsplit(":", 1)
    return ["--set", f"{at}.repository={repository}", "--set", f"{at}.tag={tag}"]


def _sample(api: str, kind: str, spec: dict[str, Any], **more: str) -> dict[str, Any]:
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": "omnistage-sample", **more},
        "spec": spec,
    }


_POD = {"template": {"spec": {"containers": [{"name": "pytorch", "image": "none"}]}}}
_IMAGES = {
    "training-operator": {"training-operator": TRAINING_OPERATOR_IMAGE},
    "trainer": {"jobset": JOBSET_IMAGE, "trainer": TRAINER_IMAGE},
    "kueue": {"kueue": KUEUE_IMAGE},
}
_OPERATORS: dict[str, tuple[Callable[[Cluster], None], dict[str, Any]]] = {
    "training-operator": (
        _training_operator,
        _sample(
            "kubeflow.org/v1",
            "PyTorchJob",
            {"pytorchReplicaSpecs": {"Master": {"replicas": 1, **_POD}}},
            namespace="default",
        ),
    ),
    "trainer": (
        _trainer,
        _sample(
            "trainer.kubeflow.org/v1alpha1",
            "TrainJob",
            {"runtimeRef": {"name": "torch-distributed"}},
            namespace="default",
        ),
    ),
    "kueue": (_kueue, _sample("kueue.x-k8s.io/v1beta1", "ResourceFlavor", {})),
}
