"""``omnistage doctor``: judgements on what it reads, of this machine and of a cluster's objects."""

import json
from pathlib import Path
from typing import Any

import pytest

from omnistage.cli import main as cli
from omnistage.cluster.settings import LaunchSettings, NodePool
from omnistage.doctor.check import Check, report
from omnistage.doctor.cluster import pull_pod
from omnistage.doctor.machine import (
    disk_check,
    gpu_check,
    kfp_check,
    memory_check,
    package_check,
    python_check,
    shm_check,
    store_check,
)
from omnistage.doctor.rules import (
    claim_check,
    image_seen,
    keys_check,
    operator_check,
    pool_check,
    pull_state,
    queue_check,
    rights,
    rights_check,
)
from omnistage.stage.key import pinned_version
from omnistage.store.layout import Store

GB = 1 << 30


@pytest.mark.parametrize(
    ("check", "level"),
    [
        (python_check((3, 11)), "ok"),
        (python_check((3, 12)), "ok"),
        (python_check((3, 10)), "fail"),
        (python_check((3, 13)), "fail"),
        (package_check("torch", pinned_version("torch") + "+cu130"), "ok"),
        (package_check("torch", "1.0.0"), "fail"),
        (package_check("trl", None), "fail"),
        (kfp_check(None), "fail"),
        (kfp_check("2.16.0"), "fail"),
        (gpu_check(0, ""), "warn"),
        (gpu_check(4, ""), "ok"),
        (gpu_check(4, "driver is too old"), "fail"),
        (disk_check("disk", 500 * GB, Path("/")), "ok"),
        (disk_check("disk", 20 * GB, Path("/")), "warn"),
        (disk_check("disk", GB, Path("/")), "fail"),
        (shm_check(64 * 1024 * 1024), "warn"),
        (shm_check(16 * GB), "ok"),
        (memory_check(4 * GB), "warn"),
        (memory_check(64 * GB), "ok"),
    ],
)
def test_what_the_machine_has_is_judged(check: Check, level: str) -> None:
    assert check.level == level
    assert bool(check.advice) == (level != "ok")


def test_a_store_is_written_to_and_left_as_it_was(store: Store) -> None:
    assert store_check(store.uri).level == "ok"
    assert store.find("runs", "x") is None


def test_a_store_that_cannot_be_written_fails(bucket: str, tmp_path: Path) -> None:
    assert store_check("s3://no-such-bucket/x").level == "fail"
    (tmp_path / "file").write_text("")
    assert store_check("ftp://x/y").level == "fail"
    assert "404" in store_check("s3://no-such-bucket/x").found


def test_the_exit_code_says_whether_something_fails(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [Check("a", "ok", "fine"), Check("long", "warn", "so so", "do this")]
    assert report(checks, False) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok    a     fine",
        "warn  long  so so",
        "            → do this",
    ]
    assert report([*checks, Check("c", "fail", "broken", "mend")], True) == 2
    assert json.loads(capsys.readouterr().out)[2] == {
        "name": "c",
        "level": "fail",
        "found": "broken",
        "advice": "mend",
    }


def test_doctor_of_a_machine_looks_at_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["doctor", "--json", "--home", str(tmp_path / "h")])
    checks = json.loads(capsys.readouterr().out)
    names = {c["name"] for c in checks}
    assert {"python", "torch", "kfp", "gpu", "disk", "shm", "memory", "store"} <= names
    assert code == (2 if any(c["level"] == "fail" for c in checks) else 0)
    assert not (tmp_path / "h").exists()


def test_without_a_cluster_doctor_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert cli.main(["doctor", "--cluster"]) == 2
    out = capsys.readouterr().out
    assert out.startswith("fail  api  no cluster to talk to")
    assert "→ run this in a pod, or set KUBECONFIG" in out


def node(name: str = "n", gpus: int = 8, cpu: str = "64", **fields: Any) -> dict[str, Any]:
    have = {"nvidia.com/gpu": str(gpus), "cpu": cpu, "memory": "512Gi"}
    return {
        "metadata": {"name": name, "labels": fields.get("labels", {})},
        "spec": {"taints": fields.get("taints", [])},
        "status": {"allocatable": have, "images": fields.get("images", [])},
    }


TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
POOL = NodePool(node_selector={"pool": "a100"})


@pytest.mark.parametrize(
    ("nodes", "settings", "level", "said"),
    [
        ([node(taints=[TAINT])], {}, "ok", "1 nodes with 8 nvidia.com/gpu; 1 can hold a pod"),
        ([node(), node()], {"nodes": 2, "gpus_per_node": 8}, "ok", "2 can hold a pod, 2 needed"),
        ([node()], {"nodes": 2}, "fail", "1 of 2 needed can hold a pod"),
        ([node(gpus=4)], {"gpus_per_node": 8}, "fail", "too little nvidia.com/gpu (has 4)"),
        ([node(cpu="7900m")], {}, "fail", "too little cpu (has 7900m)"),
        ([node()], {"rdma": {"rdma/ib": 1}}, "fail", "too little rdma/ib (has 0)"),
        (
            [node(taints=[{**TAINT, "key": "team"}])],
            {},
            "fail",
            "all with taints that its pods do not tolerate: team:NoSchedule",
        ),
        ([node(taints=[{**TAINT, "key": "x", "effect": "PreferNoSchedule"}])], {}, "ok", "1 nodes"),
        ([node()], {"node_pools": {"gpu": POOL}}, "warn", "no node with pool=a100"),
        ([node(labels={"pool": "a100"})], {"node_pools": {"gpu": POOL}}, "ok", "pool gpu"),
        ([node(taints=[])], {"node_pool": ""}, "ok", "any node: 1 nodes"),
    ],
)
def test_a_pool_must_hold_the_gang(
    nodes: list[dict[str, Any]], settings: dict[str, Any], level: str, said: str
) -> None:
    check = pool_check(nodes, LaunchSettings(**settings))
    assert (check.level, said in check.found) == (level, True), check


def test_the_operator_must_be_available() -> None:
    def deployment(name: str, available: int) -> dict[str, Any]:
        container = {"image": "registry.example/operator:v1.9.4"}
        return {
            "metadata": {"name": name, "namespace": "kubeflow"},
            "spec": {"template": {"spec": {"containers": [container]}}},
            "status": {"availableReplicas": available},
        }

    settings = LaunchSettings()
    up = operator_check([deployment("training-operator", 1)], settings)
    assert (up.level, up.found) == ("ok", "kubeflow/training-operator (operator:v1.9.4)")
    down = operator_check([deployment("training-operator", 0)], settings)
    assert down.level == "fail"
    assert "kubectl -n kubeflow describe deployment training-operator" in down.advice
    assert operator_check([], settings).level == "fail"
    trainer = deployment("x-kubeflow-trainer-controller-manager", 1)
    assert operator_check([trainer], LaunchSettings(backend="trainjob")).level == "ok"


def test_a_queue_must_be_active() -> None:
    def queue(status: str) -> dict[str, Any]:
        condition = {"type": "Active", "status": status, "message": "ClusterQueue not found"}
        return {
            "spec": {"clusterQueue": "gpus"},
            "status": {"conditions": [condition], "pendingWorkloads": 3},
        }

    assert queue_check("q", queue("True")).found == "q of gpus, 3 waiting"
    assert queue_check("q", queue("False")).found == "q: ClusterQueue not found"
    assert queue_check("q", queue("False")).level == queue_check("q", None).level == "fail"


def test_claims_are_bound_or_can_be() -> None:
    def claim(phase: str, storage: str | None = None) -> dict[str, Any]:
        spec = {"accessModes": ["ReadWriteMany"], "storageClassName": storage}
        return {"spec": spec, "status": {"phase": phase}}

    assert claim_check("c", claim("Bound"), None).found == "bound, ReadWriteMany"
    assert claim_check("c", claim("Pending", "nfs"), ["ssd"]).level == "fail"
    assert claim_check("c", claim("Pending", "ssd"), ["ssd"]).level == "warn"
    assert claim_check("c", claim("Pending", "nfs"), None).level == "warn"
    assert claim_check("c", None, []).level == "fail"


def test_secrets_are_checked_by_the_names_of_their_keys() -> None:
    want = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    assert keys_check("secret", "s", [*want, "x"], want).level == "ok"
    lacks = keys_check("secret", "s", ["AWS_ACCESS_KEY_ID"], want)
    assert (lacks.level, lacks.found) == ("fail", "lacks AWS_SECRET_ACCESS_KEY")
    assert keys_check("secret", "s", None, want).found == "not there"


def test_rights_are_those_of_the_back_end() -> None:
    torch = rights(LaunchSettings())
    assert ("create", "kubeflow.org", "pytorchjobs") in torch
    assert not any(group == "trainer.kubeflow.org" for _, group, _ in torch)
    train = rights(LaunchSettings(backend="trainjob", queue="q"))
    assert ("delete", "trainer.kubeflow.org", "trainjobs") in train
    assert ("list", "kueue.x-k8s.io", "workloads") in train
    assert rights_check("a", [], 9).level == "ok"
    refused = rights_check("a", [("get", "", "pods/log"), ("list", "kubeflow.org", "x")], 9)
    assert refused.found == "a may not get pods/log, list x.kubeflow.org"


def test_an_image_is_known_by_its_digest() -> None:
    digest = "sha256:" + "1" * 64
    nodes = [node("a"), node("b", images=[{"names": [f"mirror.example/x@{digest}"]}])]
    assert image_seen(nodes, f"registry.example/x@{digest}") == "b"
    assert image_seen(nodes, "registry.example/x@sha256:" + "2" * 64) == ""


@pytest.mark.parametrize(
    ("status", "pulled"),
    [
        ({}, None),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, None),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}, False),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "InvalidImageName"}}}]}, False),
        ({"containerStatuses": [{"state": {"running": {}}, "imageID": "x"}]}, True),
        (
            {
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "CreateContainerError"}}, "imageID": "x"}
                ]
            },
            True,
        ),
    ],
)
def test_a_pod_shows_whether_its_image_was_pulled(status: Any, pulled: bool | None) -> None:
    assert pull_state({"status": status})[0] is pulled


def test_the_pod_that_pulls_an_image_goes_to_the_pool_and_can_do_nothing() -> None:
    settings = LaunchSettings(image_pull_secrets=["pull"])
    spec = pull_pod("p", "i", settings.pool(), settings)["spec"]
    assert spec["tolerations"] == settings.pool().tolerations
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert spec["automountServiceAccountToken"] is False
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
