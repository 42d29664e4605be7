"""The cluster itself behaves as one of a cloud does, so that other tests may rely on it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omnistage.cluster.settings import ClaimMount
from tests.on_cluster.harness import images, storage
from tests.on_cluster.harness.cluster import Cluster, ClusterError
from tests.on_cluster.harness.components import GPU_TAINT

TOLERATION = {"key": GPU_TAINT["key"], "operator": "Exists", "effect": "NoSchedule"}


def container(*command: str, gpus: int = 0) -> dict[str, Any]:
    """Return a container that the restricted pod standard lets run."""
    return {
        "name": "pytorch",
        "image": images.HOST,
        "command": list(command),
        "resources": {"limits": {"nvidia.com/gpu": gpus}} if gpus else {},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def pod_spec(one: dict[str, Any], mounts: list[ClaimMount], **more: Any) -> dict[str, Any]:
    volumes, places = storage.pod_volumes(mounts)
    return {
        "containers": [
            {**one, "volumeMounts": [*places, {"name": "tmp", "mountPath": "/tmp"}]},
        ],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": images.USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **more,
    }


def start_pod(cluster: Cluster, namespace: str, name: str, spec: dict[str, Any]) -> None:
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def wait_for_phase(cluster: Cluster, namespace: str, name: str, phase: str) -> None:
    def seen() -> bool:
        return cluster.get("pod", name, "-n", namespace)["status"].get("phase") == phase

    cluster.wait(f"pod {name} is {phase}", seen)


def test_a_pod_runs_this_repository_with_its_own_python(
    cluster: Cluster, namespace: str, host_mounts: list[ClaimMount]
) -> None:
    program = "import os, omnistage; print(omnistage.__file__, os.getuid(), os.environ['HOME'])"
    one = container("python", "-c", program)
    start_pod(cluster, namespace, "one", pod_spec(one, host_mounts))
    wait_for_phase(cluster, namespace, "one", "Succeeded")
    log = cluster.kubectl("logs", "one", "-n", namespace)
    module = Path(storage.REPOSITORY, "omnistage/__init__.py")
    assert log == f"{module} 65532 /tmp\n"


def test_a_program_can_be_run_in_a_running_pod(
    cluster: Cluster, namespace: str, host_mounts: list[ClaimMount]
) -> None:
    start_pod(cluster, namespace, "one", pod_spec(container("sleep", "600"), host_mounts))
    wait_for_phase(cluster, namespace, "one", "Running")
    assert cluster.kubectl("exec", "one", "-n", namespace, "--", "id", "-u") == "65532\n"


def test_a_service_has_a_name_and_reaches_its_pod_on_another_node(
    cluster: Cluster, namespace: str, host_mounts: list[ClaimMount]
) -> None:
    serve = container("python", "-m", "http.server", "8080", "--directory", "/usr/share/doc/dash")
    on_gpu_node = {"nodeSelector": {"omnistage.dev/pool": "gpu"}, "tolerations": [TOLERATION]}
    start_pod(cluster, namespace, "web", pod_spec(serve, host_mounts, **on_gpu_node))
    service = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    metadata = {"name": "web", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service})
    ask = (
        "import time, urllib.request\n"
        "for attempt in range(100):\n"
        "    try:\n"
        "        answer = urllib.request.urlopen('http://web/copyright', timeout=2)\n"
        "        break\n"
        "    except OSError:\n"
        "        time.sleep(0.2)\n"
        "print(answer.status)\n"
    )
    spec = pod_spec(container("python", "-c", ask), host_mounts)
    start_pod(cluster, namespace, "client", spec)
    wait_for_phase(cluster, namespace, "client", "Succeeded")
    assert cluster.kubectl("logs", "client", "-n", namespace) == "200\n"
    nodes = {
        name: cluster.get("pod", name, "-n", namespace)["spec"]["nodeName"]
        for name in ("web", "client")
    }
    assert nodes == {"web": "omnistage-gpu", "client": "omnistage-cpu"}


def scheduling_message(cluster: Cluster, namespace: str, name: str) -> str:
    def refused() -> str:
        conditions = cluster.get("pod", name, "-n", namespace)["status"].get("conditions", [])
        return next((c["message"] for c in conditions if c.get("reason") == "Unschedulable"), "")

    return cluster.wait("the scheduler's reason", refused)


def test_eight_gpus_are_there_and_sixteen_are_not(cluster: Cluster, namespace: str) -> None:
    nodes = cluster.get("nodes")["items"]
    gpus = {n["metadata"]["name"]: n["status"]["allocatable"].get("nvidia.com/gpu") for n in nodes}
    assert gpus == {"omnistage-cpu": None, "omnistage-gpu": "8"}
    for name, wanted in (("one", 1), ("sixteen", 16)):
        spec = pod_spec(container("/bin/true", gpus=wanted), [], tolerations=[TOLERATION])
        start_pod(cluster, namespace, name, spec)
    assert "Insufficient nvidia.com/gpu" in scheduling_message(cluster, namespace, "sixteen")
    scheduled = cluster.wait(
        "the pod of one GPU has a node",
        lambda: cluster.get("pod", "one", "-n", namespace)["spec"].get("nodeName"),
    )
    assert scheduled == "omnistage-gpu"


def test_gpu_nodes_refuse_pods_that_do_not_tolerate_their_taint(
    cluster: Cluster, namespace: str
) -> None:
    start_pod(cluster, namespace, "one", pod_spec(container("/bin/true", gpus=1), []))
    assert "untolerated taint" in scheduling_message(cluster, namespace, "one")


def test_a_privileged_pod_is_refused_in_a_restricted_namespace(
    cluster: Cluster, namespace: str
) -> None:
    one = {**container("/bin/true"), "securityContext": {"privileged": True}}
    with pytest.raises(ClusterError, match='violates PodSecurity "restricted.*privileged'):
        start_pod(cluster, namespace, "one", pod_spec(one, []))


def test_pods_and_this_machine_share_one_s3_endpoint(
    cluster: Cluster, namespace: str, host_mounts: list[ClaimMount], s3: storage.S3
) -> None:
    s3.client().put_object(Bucket=s3.bucket, Key="greeting", Body=b"from outside")
    cluster.apply(*s3.objects(namespace))
    program = (
        "import boto3; s3 = boto3.client('s3')\n"
        f"found = s3.get_object(Bucket='{s3.bucket}', Key='greeting')['Body'].read()\n"
        f"s3.put_object(Bucket='{s3.bucket}', Key='answer', Body=found + b', read by a pod')"
    )
    sources = [
        {"secretRef": {"name": "omnistage-store"}},
        {"configMapRef": {"name": "omnistage-store"}},
    ]
    one = {**container("python", "-c", program), "envFrom": sources}
    start_pod(cluster, namespace, "one", pod_spec(one, host_mounts))
    wait_for_phase(cluster, namespace, "one", "Succeeded")
    answer = s3.client().get_object(Bucket=s3.bucket, Key="answer")["Body"].read()
    assert answer == b"from outside, read by a pod"


OF_JOB = {"labels": {"app.kubernetes.io/part-of": "sum"}}
ALL_REDUCE = """\
import json, os, torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
print(json.dumps({"sum": total.item(), "rank": os.environ["RANK"]}))
"""


def pytorchjob(namespace: str, spec: dict[str, Any], queue: str = "") -> dict[str, Any]:
    replica = {
        "replicas": 1,
        "restartPolicy": "Never",
        "template": {"metadata": OF_JOB, "spec": spec},
    }
    labels = {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": "sum", "namespace": namespace, "labels": labels},
        "spec": {"pytorchReplicaSpecs": {"Master": replica, "Worker": replica}},
    }


def wait_for_end(cluster: Cluster, namespace: str, kind: str, good: str) -> None:
    """Wait until the job ``sum`` ended, and say what its pods said if it did not end well."""

    def end() -> str:
        status = cluster.get(kind, "sum", "-n", namespace).get("status", {})
        true = (c["type"] for c in status.get("conditions", []) if c["status"] == "True")
        return next((kind for kind in true if kind in (good, "Failed")), "")

    found = cluster.wait("the end of the job", end, 300)
    logs = cluster.kubectl("logs", "-n", namespace, "-l", "app.kubernetes.io/part-of=sum")
    assert found == good, logs


@pytest.mark.usefixtures("training_operator")
def test_a_pytorchjob_joins_master_and_worker_in_a_restricted_namespace(
    cluster: Cluster,
    namespace: str,
    host_mounts: list[ClaimMount],
    kubectl: Callable[..., str],
) -> None:
    program = "import json, os; print(json.dumps(dict(os.environ)), flush=True)\n" + ALL_REDUCE
    one = container("python", "-c", program, gpus=1)
    cluster.apply(pytorchjob(namespace, pod_spec(one, host_mounts, tolerations=[TOLERATION])))
    wait_for_end(cluster, namespace, "pytorchjob", "Succeeded")
    first, last = kubectl("logs", "sum-master-0", "-n", namespace).splitlines()
    assert json.loads(last) == {"sum": 2.0, "rank": "0"}
    variables = json.loads(first)
    assert variables["MASTER_PORT"] == "23456"
    assert variables["PET_NNODES"] == "2"
    worker = json.loads(kubectl("logs", "sum-worker-0", "-n", namespace).splitlines()[0])
    assert worker["MASTER_ADDR"] == "sum-master-0"
    assert worker["RANK"] == "1"


@pytest.mark.usefixtures("trainer_operator")
def test_a_trainjob_joins_two_nodes_in_a_restricted_namespace(
    cluster: Cluster,
    namespace: str,
    host_mounts: list[ClaimMount],
    kubectl: Callable[..., str],
) -> None:
    spec = pod_spec(container(), host_mounts, tolerations=[TOLERATION])
    del spec["restartPolicy"], spec["terminationGracePeriodSeconds"]  # the runtime's to say
    (one,) = spec["containers"]
    spec["containers"] = [
        {
            "name": "node",
            "volumeMounts": one["volumeMounts"],
            "securityContext": one["securityContext"],
        }
    ]
    patch = {"name": "node", "template": {"spec": {"template": {"metadata": OF_JOB, "spec": spec}}}}
    job = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "sum", "namespace": namespace},
        "spec": {
            "runtimeRef": {"name": "torch-distributed"},
            "trainer": {
                "image": images.HOST,
                "command": ["sh", "-c", 'echo "$PROGRAM" > /tmp/sum.py; exec torchrun /tmp/sum.py'],
                "env": [{"name": "PROGRAM", "value": ALL_REDUCE}],
                "numNodes": 2,
                "numProcPerNode": 1,
                "resourcesPerNode": {"limits": {"nvidia.com/gpu": 1}},
            },
            "runtimePatches": [
                {
                    "manager": "omnistage.dev/test",
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [patch]}}},
                }
            ],
        },
    }
    cluster.apply(job)
    wait_for_end(cluster, namespace, "trainjob", "Complete")
    lines = kubectl("logs", "-n", namespace, "-l", "app.kubernetes.io/part-of=sum").splitlines()
    said = [json.loads(line) for line in lines if line.startswith("{")]
    assert sorted(one["rank"] for one in said) == ["0", "1"]
    assert {one["sum"] for one in said} == {2.0}


@pytest.fixture
def queue(cluster: Cluster, namespace: str, kueue: None) -> Iterator[str]:
    """A Kueue queue of the namespace, with all GPUs of the cluster."""
    api = {"apiVersion": "kueue.x-k8s.io/v1beta1"}
    gpus = {"name": "nvidia.com/gpu", "nominalQuota": 8}
    group = {
        "coveredResources": ["nvidia.com/gpu"],
        "flavors": [{"name": namespace, "resources": [gpus]}],
    }
    whole = {"metadata": {"name": namespace}}
    cluster.apply(
        {**api, "kind": "ResourceFlavor", **whole, "spec": {}},
        {
            **api,
            "kind": "ClusterQueue",
            **whole,
            "spec": {"namespaceSelector": {}, "resourceGroups": [group]},
        },
        {
            **api,
            "kind": "LocalQueue",
            "metadata": {"name": "gpus", "namespace": namespace},
            "spec": {"clusterQueue": namespace},
        },
    )
    yield "gpus"
    cluster.kubectl("delete", "pytorchjobs", "--all", "-n", namespace)
    cluster.kubectl("delete", "clusterqueue,resourceflavor", namespace)


@pytest.mark.usefixtures("training_operator")
def test_a_queue_starts_a_job_that_fits_its_quota(
    cluster: Cluster, namespace: str, queue: str
) -> None:
    spec = pod_spec(container("/bin/true", gpus=4), [], tolerations=[TOLERATION])
    cluster.apply(pytorchjob(namespace, spec, queue))
    pods = cluster.wait(
        "the queue lets the job's pods be created",
        lambda: cluster.get("pods", "-n", namespace)["items"],
    )
    assert pods[0]["metadata"]["name"].startswith("sum-")


@pytest.mark.usefixtures("training_operator")
def test_a_queue_holds_a_job_beyond_its_quota_and_says_why(
    cluster: Cluster, namespace: str, queue: str
) -> None:
    spec = pod_spec(container("/bin/true", gpus=8), [], tolerations=[TOLERATION])
    cluster.apply(pytorchjob(namespace, spec, queue))

    def reason() -> str:
        workloads = cluster.get("workloads", "-n", namespace)["items"]
        conditions = [c for w in workloads for c in w.get("status", {}).get("conditions", [])]
        return next((c["message"] for c in conditions if c["type"] == "QuotaReserved"), "")

    assert "request > maximum capacity (16 > 8)" in cluster.wait("the queue's reason", reason)
    assert cluster.get("pods", "-n", namespace)["items"] == []
