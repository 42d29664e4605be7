"""docs/install.md, run command by command on a real API server."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from omnistage.cluster.jobs.job import ClusterJob
from omnistage.cluster.jobs.pytorchjob import BACKEND
from omnistage.cluster.settings import merge_settings
from tests.on_cluster.charts import chart_kit
from tests.on_cluster.harness import images, storage
from tests.on_cluster.harness.cluster import REPOSITORY, Cluster

PAGE = REPOSITORY / "docs" / "install.md"
TEAM = "team"
SYSTEM = "kubeflow"
"""Instead of omnistage-system: where the tests' own training operator is, which gives way."""
QUEUE = "install-page"
OVER_THE_TESTS_OWN = ("--take-ownership", "--force-conflicts")

MEETING = """\
import os, socket, time
port = int(os.environ["MASTER_PORT"])
if os.environ["RANK"] == "0":
    socket.create_server(("", port)).accept()
    print("met")
else:
    while True:
        try:
            socket.create_connection((os.environ["MASTER_ADDR"], port), 2).close()
            break
        except OSError:
            time.sleep(0.2)
"""


def commands() -> list[str]:
    """The page's commands, continued lines joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r" +", " ", line) for line in lines]


def platform_values() -> dict[str, Any]:
    """platform.yaml of this cluster: GPUs and Kueue are there already."""
    flavor = {"name": QUEUE, "nodeLabels": {"omnistage.dev/pool": "gpu"}}
    quotas = {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "8"}
    queue = {"name": QUEUE, "flavors": [{"name": QUEUE, "quotas": quotas}]}
    return {
        "gpu-operator": {"enabled": False},
        "kueue": {"enabled": False},
        "training-operator": {
            "initContainer": {"image": images.NSLOOKUP},
            "resources": {"requests": {"cpu": "50m"}},
        },
        "queues": {"flavors": [flavor], "clusterQueues": [queue]},
    }


def team_values(s3: storage.S3) -> dict[str, Any]:
    """team.yaml of this cluster, whose images live on this machine's files."""
    repository, tag = images.HOST.rsplit(":", 1)
    settings = {
        "cpu": "100m",
        "memory": "256Mi",
        "shm": "16Mi",
        "scratch": "1Gi",
        "volumes": [m.model_dump() for m in storage.host_mounts()],
    }
    return {
        "image": {"launcher": {"repository": repository, "tag": tag}},
        "rbac": {"clusterReader": True},
        "store": {"uri": f"s3://{s3.bucket}/install", "s3": {"endpoint": s3.url}},
        "launch": {"settings": settings},
        "queue": {"create": True, "clusterQueue": QUEUE},
    }


@pytest.fixture
def desk(cluster: Cluster, s3: storage.S3, tmp_path: Path) -> Iterator[Path]:
    """The folder in which the page's reader sits; afterwards the operator is there again."""
    (tmp_path / "charts").symlink_to(REPOSITORY / "charts")
    platform = chart_kit.assemble(tmp_path / "build" / "charts")
    values = tmp_path / "platform.yaml"
    values.write_text(yaml.safe_dump(platform_values()))
    (tmp_path / "team.yaml").write_text(yaml.safe_dump(team_values(s3)))
    release = ("omnistage-platform", "--namespace", SYSTEM)
    cluster.helm("uninstall", *release, "--ignore-not-found")
    yield tmp_path
    cluster.helm("uninstall", "omnistage", "--namespace", TEAM, "--ignore-not-found")
    cluster.kubectl("delete", "namespace", TEAM, "--ignore-not-found")
    cluster.kubectl("delete", "pv", "-l", f"omnistage.dev/namespace={TEAM}")
    again = ("upgrade", "--install", *release, str(platform), "--values", str(values), "--wait")
    cluster.helm(*again, *OVER_THE_TESTS_OWN)


def run_gang(cluster: Cluster) -> None:
    """Run a job of Master and Worker as a launcher would, with the chart's settings and queue."""
    found = cluster.get("configmap", "omnistage-launch", "-n", TEAM)["data"]["launch.yaml"]
    settings = merge_settings(yaml.safe_load(found), {"nodes": 2})
    assert settings.queue == "omnistage"
    command = ("python", "-c", MEETING)
    job = ClusterJob("sft", "0123456789abcdef" * 2, images.HOST, command, settings, TEAM)
    cluster.apply(BACKEND.render(job))
    where = (f"pytorchjob/{job.name}", "-n", TEAM)
    cluster.kubectl("wait", *where, "--for=condition=Succeeded", "--timeout=120s")
    assert cluster.kubectl("logs", f"{job.name}-master-0", "-n", TEAM) == "met\n"
    cluster.kubectl("delete", *where)


@pytest.mark.usefixtures("training_operator", "kueue")
def test_the_pages_commands_set_a_cluster_up_and_take_it_away(
    cluster: Cluster, s3: storage.S3, desk: Path
) -> None:
    said: dict[str, str] = {}
    for command in commands():
        if command.startswith("helm uninstall omnistage "):
            run_gang(cluster)
        line = command.replace("omnistage-system", SYSTEM)
        if command.startswith("helm install omnistage-platform"):
            line = " ".join((line, *OVER_THE_TESTS_OWN))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=desk,
            env={**cluster.environment, **s3.credentials},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert "would violate PodSecurity" not in done.stderr
        said[" ".join(command.split()[:3])] = done.stdout
        if command.startswith("kubectl create secret"):
            cluster.apply(*storage.host_claims(TEAM))
    assert said["kubectl auth can-i"].startswith("Resources")
    doctor = [line for line in said["helm test omnistage"].splitlines() if line[:4] == "fail"]
    assert doctor == []
    ours = ("-l", "app.kubernetes.io/part-of=omnistage")
    assert cluster.get("roles,configmaps,networkpolicies", "-n", TEAM, *ours)["items"] == []
    gone = ("get", "clusterrole", "training-operator", "--ignore-not-found")
    assert cluster.kubectl(*gone) == ""
    assert cluster.get("crd", "pytorchjobs.kubeflow.org")["metadata"]["name"]
    cluster.wait(
        "the platform's queues are gone",
        lambda: not cluster.get("clusterqueues,resourceflavors,cohorts", *ours)["items"],
    )
