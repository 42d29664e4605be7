"""``omnistage doctor --cluster`` on a real cluster: before and after the chart is installed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from omnistage.cli.main import main
from omnistage.cluster.settings import ClaimMount
from tests.on_cluster.harness.cluster import REPOSITORY, Cluster, ClusterError
from tests.on_cluster.harness.images import HOST
from tests.on_cluster.harness.storage import S3, pod_volumes

CHART = REPOSITORY / "charts" / "omnistage"
SMALL = {"cpu": "100m", "memory": "256Mi"}

Doctor = Callable[..., dict[str, dict[str, str]]]
Install = Callable[..., None]


@pytest.fixture
def doctor(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> Doctor:
    """Runs the command as the cluster's administrator and returns its checks by name."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))

    def run(*more: str, code: int) -> dict[str, dict[str, str]]:
        assert main(["doctor", "--cluster", "--json", "--namespace", namespace, *more]) == code
        checks = json.loads(capsys.readouterr().out)
        return {check["name"]: check for check in checks}

    return run


@pytest.fixture
def chart(cluster: Cluster, namespace: str, s3: S3, tmp_path: Path) -> Iterator[Install]:
    """Installs the chart, with values of the test's own."""
    secret, _ = s3.objects(namespace)

    def install(**settings: Any) -> None:
        values = {
            "store": {"s3": {"endpoint": s3.url, "region": "us-east-1"}},
            "launch": {"settings": {**SMALL, **settings}},
            "networkPolicy": {"enabled": False},
        }
        path = tmp_path / "values.yaml"
        path.write_text(yaml.safe_dump(values))
        cluster.apply(secret)
        arguments = ("omnistage", str(CHART), "-n", namespace, "-f", str(path))
        cluster.helm("upgrade", "--install", *arguments)

    yield install
    cluster.helm("uninstall", "omnistage", "-n", namespace, "--ignore-not-found")


def levels(checks: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: check["level"] for name, check in checks.items()}


@pytest.mark.usefixtures("training_operator")
def test_an_empty_namespace_lacks_what_the_chart_brings(doctor: Doctor, namespace: str) -> None:
    checks = doctor(code=2)
    found = levels(checks)
    assert found["api"] == found["namespace"] == found["operator"] == "ok"
    assert found["crd pytorchjobs.kubeflow.org"] == "ok"
    assert "enforces pod standard restricted" in checks["namespace"]["found"]
    for missing in ("secret omnistage-store", "account omnistage-launcher", "rbac"):
        assert (missing, found[missing]) == (missing, "fail")
    rbac = checks["rbac"]["found"]
    assert f"{namespace}:omnistage-launcher may not create pytorchjobs.kubeflow.org" in rbac


@pytest.mark.usefixtures("training_operator")
def test_with_the_chart_all_is_well(
    doctor: Doctor, chart: Install, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omnistage.store.s3_client import client

    chart()
    for name, value in {**s3.credentials, **s3.settings}.items():
        monkeypatch.setenv(name, value)
    client.cache_clear()
    store = f"s3://{s3.bucket}/doctor"
    checks = doctor("--store", store, "--image", f"trainer={HOST}", code=0)
    client.cache_clear()
    assert set(levels(checks).values()) == {"ok"}
    assert checks["image trainer"]["found"].startswith("on node omnistage-")
    assert checks["secret omnistage-store"]["found"] == (
        "has AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"
    )
    assert s3.secret not in json.dumps(checks)


@pytest.mark.usefixtures("training_operator")
def test_a_pool_that_cannot_hold_the_gang_is_said(doctor: Doctor, chart: Install) -> None:
    chart(nodes=2, gpus_per_node=8)
    gpus = doctor(code=2)["gpus"]
    assert gpus["level"] == "fail"
    assert "1 of 2 needed can hold a pod" in gpus["found"]


@pytest.mark.usefixtures("kueue", "training_operator")
def test_a_queue_and_a_claim_that_are_not_there_are_said(doctor: Doctor, chart: Install) -> None:
    chart(queue="team", volumes=[{"claim": "models", "mount_path": "/models"}])
    checks = doctor(code=2)
    assert checks["queue"]["found"] == "no LocalQueue team"
    assert checks["claim models"]["found"] == "not there"


def test_the_section_of_a_recipe_goes_over_the_clusters_settings(
    doctor: Doctor, chart: Install
) -> None:
    chart(nodes=2, backend="pytorchjob")
    assert doctor("--recipe", "omnicritic-3b", code=2)["settings"]["found"] == "pytorchjob, 1 × 4"


@pytest.mark.usefixtures("training_operator")
def test_an_image_that_cannot_be_pulled_is_said_and_leaves_no_pod(
    doctor: Doctor, kubectl: Callable[..., str], namespace: str
) -> None:
    missing = "registry.invalid/omnistage/trainer@sha256:" + "3" * 64
    image = doctor("--image", f"trainer={missing}", code=2)["image trainer"]
    assert image["level"] == "fail"
    assert "registry.invalid" in image["found"]
    assert "Running" not in kubectl("get", "pods", "-n", namespace)


@pytest.mark.usefixtures("training_operator")
def test_the_launchers_own_account_can_run_it(
    cluster: Cluster,
    chart: Install,
    namespace: str,
    host_mounts: list[ClaimMount],
    s3: S3,
) -> None:
    """As `helm test` does: what the account may not read is a warning, and the rest is well."""
    chart()
    volumes, places = pod_volumes(host_mounts)
    store = f"s3://{s3.bucket}/doctor"
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "doctor",
        "image": HOST,
        "command": ["python", "-m", "omnistage", "doctor", "--cluster", "--json", "--store", store],
        "envFrom": [
            {"configMapRef": {"name": "omnistage-store"}},
            {"secretRef": {"name": "omnistage-store"}},
        ],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "volumeMounts": [*places, {"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": {**security, "readOnlyRootFilesystem": True},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "doctor", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "omnistage-launcher",
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
            "containers": [container],
        },
    }
    cluster.apply(pod)

    def ended() -> bool:
        found = cluster.get("pod", "doctor", "-n", namespace)["status"].get("phase")
        return found in ("Succeeded", "Failed")

    cluster.wait("the pod of doctor", ended, 120)
    checks = {c["name"]: c for c in json.loads(cluster.kubectl("logs", "doctor", "-n", namespace))}
    found = levels(checks)
    assert "fail" not in found.values()
    for name in ("api", "settings", "crd pytorchjobs.kubeflow.org", "rbac", "store"):
        assert (name, found[name]) == (name, "ok")
    for name in ("gpus", "operator", "secret omnistage-store"):
        assert (name, found[name]) == (name, "warn")
    with pytest.raises(ClusterError):
        cluster.kubectl(
            *("auth", "can-i", "get", "secrets", "-n", namespace),
            f"--as=system:serviceaccount:{namespace}:omnistage-launcher",
        )
