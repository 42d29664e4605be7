"""What is created on a cluster: the manifests of both back ends, as stored in golden."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from omnistage.cluster.jobs import pytorchjob, trainjob
from omnistage.cluster.jobs.backends import backend_of
from omnistage.cluster.jobs.job import ClusterJob
from omnistage.cluster.jobs.pod import SECRET_KEYS
from omnistage.cluster.settings import LaunchSettings, cluster_defaults, merge_settings
from omnistage.errors import InputError

GOLDEN = Path(__file__).with_name("golden")
OWNER = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run-x", "uid": "u-1"}
EVERYTHING: dict[str, Any] = {
    "nodes": 3,
    "gpus_per_node": 8,
    "node_pool": "h100",
    "node_pools": {
        "h100": {
            "node_selector": {"pool": "h100"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "affinity": {
                "podAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 100,
                            "podAffinityTerm": {
                                "topologyKey": "topology.kubernetes.io/zone",
                                "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "x"}},
                            },
                        }
                    ]
                }
            },
        }
    },
    "cpu": "96",
    "memory": "1Ti",
    "shm": "128Gi",
    "rdma": {"rdma/ib": 8},
    "env": {"NCCL_SOCKET_IFNAME": "eth0"},
    "queue": "training",
    "image_pull_secrets": ["registry"],
    "volumes": [
        {"claim": "omnistage-store", "mount_path": "/store"},
        {"claim": "cache", "mount_path": "/cache", "sub_path": "hub", "read_only": True},
    ],
}


def job(**settings: Any) -> ClusterJob:
    return ClusterJob(
        stage="sft",
        key="0123456789abcdef0123456789abcdef",
        image="registry.example/trainer@sha256:" + "2" * 64,
        command=("python", "-m", "components.sft", "--spec", '{"store": "s3://bucket"}'),
        settings=LaunchSettings.model_validate(settings),
        namespace="research",
        run="run-1",
        owner=OWNER,
    )


def encoding(job: ClusterJob) -> ClusterJob:
    """The job before it that encodes its records."""
    return replace(job, stage="sft_encode", settings=job.settings.for_encoding())


CASES = {
    "pytorchjob_one_node": job(),
    "pytorchjob_everything": job(**EVERYTHING, priority_class="high", scheduler="volcano"),
    "trainjob_one_node": job(backend="trainjob"),
    "trainjob_everything": job(backend="trainjob", **EVERYTHING),
    "pytorchjob_encoding": encoding(job(**EVERYTHING)),
    "trainjob_encoding": encoding(job(backend="trainjob", **EVERYTHING)),
}


@pytest.mark.parametrize("backend", ["pytorchjob", "trainjob"])
def test_records_are_encoded_on_one_pod_that_holds_no_gpu(backend: str) -> None:
    own = {"encoding_cpu": "4", "encoding_memory": "16Gi", "encoding_pool": "cpu"}
    pools = {**EVERYTHING["node_pools"], "cpu": {"node_selector": {"pool": "cpu"}}}
    made = encoding(job(backend=backend, **EVERYTHING | {"node_pools": pools}, **own))
    text = yaml.safe_dump(backend_of(made.settings).render(made))

    assert made.name == "sft-encode-0123456789abcdef-0"
    assert made.settings.nodes == 1
    assert "nvidia.com/gpu" not in text
    assert "rdma/ib" not in text
    assert "pool: cpu" in text
    assert "cpu: '4'" in text
    assert "memory: 16Gi" in text


@pytest.mark.parametrize("name", CASES)
def test_manifests_are_as_stored(name: str, update_golden: bool) -> None:
    golden = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump(
        backend_of(CASES[name].settings).render(CASES[name]), sort_keys=False, width=100
    )
    if update_golden:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text(), (
        "the manifest changed; if it should: pytest tests/cluster/test_manifests.py --update-golden"
    )


def test_one_node_has_no_worker_entry_since_the_webhook_refuses_an_empty_one() -> None:
    replicas = pytorchjob.BACKEND.render(job())["spec"]["pytorchReplicaSpecs"]
    assert list(replicas) == ["Master"]
    replicas = pytorchjob.BACKEND.render(job(nodes=4))["spec"]["pytorchReplicaSpecs"]
    assert replicas["Master"]["replicas"] == 1
    assert replicas["Worker"]["replicas"] == 3


def test_processes_are_an_integer_and_the_operator_restarts_nothing() -> None:
    spec = pytorchjob.BACKEND.render(job(gpus_per_node=4, nodes=2))["spec"]
    assert spec["nprocPerNode"] == "4"
    assert {r["restartPolicy"] for r in spec["pytorchReplicaSpecs"].values()} == {"Never"}
    assert spec["runPolicy"]["cleanPodPolicy"] == "Running"


def test_the_name_follows_from_stage_key_and_attempt() -> None:
    assert job().name == "sft-0123456789abcdef-0"
    # A DNS label has no underscore.
    assert replace(job(), stage="download_model").name == "download-model-0123456789abcdef-0"


def hash_of(made: ClusterJob) -> str:
    manifest = backend_of(made.settings).render(made)
    return manifest["metadata"]["annotations"]["omnistage.dev/spec-hash"]


@pytest.mark.parametrize("backend", ["pytorchjob", "trainjob"])
def test_the_hash_tells_what_runs_and_not_for_whom_or_which_attempt(backend: str) -> None:
    first = job(backend=backend)
    assert hash_of(replace(first, attempt=1, run="run-2", owner=None)) == hash_of(first)
    assert hash_of(replace(first, image="registry.example/other")) != hash_of(first)
    assert hash_of(job(backend=backend, nodes=2)) != hash_of(first)


@pytest.mark.parametrize("name", CASES)
def test_pods_meet_the_restricted_standard(name: str) -> None:
    made = CASES[name]
    manifest = backend_of(made.settings).render(made)
    pods, containers = pod_specs(manifest)
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {next(k for k in v if k != "name") for v in pod["volumes"]} <= {
            "emptyDir",
            "persistentVolumeClaim",
        }
    for container in containers:
        security = container["securityContext"]
        assert not security["allowPrivilegeEscalation"]
        assert security["readOnlyRootFilesystem"]
        # RDMA is the one setting that needs more than the standard gives.
        added = ["IPC_LOCK"] if made.settings.rdma else None
        assert security["capabilities"].get("add") == added
        assert security["capabilities"]["drop"] == ["ALL"]


def pod_specs(manifest: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    if manifest["kind"] == "PyTorchJob":
        replicas = manifest["spec"]["pytorchReplicaSpecs"].values()
        pods = [r["template"]["spec"] for r in replicas]
    else:
        [patch] = manifest["spec"]["runtimePatches"]
        [node] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
        pods = [node["template"]["spec"]["template"]["spec"]]
    return pods, [container for pod in pods for container in pod["containers"]]


def test_of_secrets_only_the_names_are_in_a_manifest() -> None:
    text = yaml.safe_dump(pytorchjob.BACKEND.render(job()))
    [container] = pod_specs(pytorchjob.BACKEND.render(job()))[1]
    found = {e["name"]: e for e in container["env"]}
    for key in SECRET_KEYS:
        assert found[key]["valueFrom"]["secretKeyRef"]["name"] == "omnistage-store"
        assert "value" not in found[key]
    assert "envFrom" not in text


def test_a_trainjob_refuses_what_it_has_no_field_for() -> None:
    with pytest.raises(InputError, match=r"cluster\.priority_class: a TrainJob has no field"):
        trainjob.BACKEND.render(job(backend="trainjob", priority_class="high"))


def test_an_unknown_node_pool_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"no pool 'a100'; this cluster has gpu"):
        pytorchjob.BACKEND.render(job(node_pool="a100"))


def test_a_recipe_goes_over_the_clusters_defaults_and_a_run_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "launch.yaml"
    path.write_text("nodes: 2\nqueue: shared\ncpu: '4'\n")
    monkeypatch.setenv("OMNISTAGE_LAUNCH_DEFAULTS", str(path))
    found = merge_settings(cluster_defaults(), {"nodes": 4}, {"queue": "mine"})
    assert (found.nodes, found.queue, found.cpu) == (4, "mine", "4")
    assert found.memory == LaunchSettings().memory


def test_a_wrong_default_of_the_cluster_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "launch.yaml"
    monkeypatch.setenv("OMNISTAGE_LAUNCH_DEFAULTS", str(path))
    path.write_text("memory: lots\n")
    with pytest.raises(InputError, match=r"cluster\.memory: String should match"):
        merge_settings(cluster_defaults())
    path.write_text("- nodes\n")
    with pytest.raises(InputError, match="expected a mapping"):
        cluster_defaults()


STATUSES = {
    "new": ({}, "pending"),
    "created": ({"conditions": [("Created", "True")]}, "pending"),
    "starting": (
        {"conditions": [("Running", "True")], "replicaStatuses": {"Master": {"active": 1}}},
        "pending",
    ),
    "running": (
        {
            "conditions": [("Created", "True"), ("Running", "True")],
            "replicaStatuses": {"Master": {"active": 1}, "Worker": {"active": 1}},
        },
        "running",
    ),
    "suspended": ({"conditions": [("Suspended", "True"), ("Running", "False")]}, "queued"),
    "succeeded": ({"conditions": [("Running", "False"), ("Succeeded", "True")]}, "succeeded"),
    "failed": ({"conditions": [("Running", "False"), ("Failed", "True")]}, "failed"),
}


@pytest.mark.parametrize("name", STATUSES)
def test_the_conditions_of_a_pytorchjob_say_its_phase(name: str) -> None:
    status, phase = STATUSES[name]
    conditions = [{"type": t, "status": s} for t, s in status.get("conditions", [])]
    manifest = pytorchjob.BACKEND.render(job(nodes=2))
    manifest["status"] = {**status, "conditions": conditions}
    assert pytorchjob.BACKEND.status(manifest).phase == phase


def test_a_job_for_a_queue_begins_suspended_so_that_nothing_runs_unadmitted() -> None:
    for kind in ("pytorchjob", "trainjob"):
        made = job(backend=kind, queue="training")
        backend = backend_of(made.settings)
        manifest = backend.render(made)
        assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
        assert backend.status(manifest).phase == "queued"


@given(nodes=st.integers(1, 64), gpus=st.integers(1, 16))
def test_a_gang_asks_for_all_its_gpus(nodes: int, gpus: int) -> None:
    manifest = pytorchjob.BACKEND.render(job(nodes=nodes, gpus_per_node=gpus))
    asked = 0
    for replica in manifest["spec"]["pytorchReplicaSpecs"].values():
        [container] = replica["template"]["spec"]["containers"]
        asked += replica["replicas"] * int(container["resources"]["limits"]["nvidia.com/gpu"])
    assert asked == nodes * gpus
