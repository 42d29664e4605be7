"""``omnistage launch --dry-run`` with a kubeconfig: the manifest that the cluster would get."""

from pathlib import Path

import pytest
import yaml

from omnistage.cli.main import main
from omnistage.store.folder import FolderStore
from tests.on_cluster.harness.cluster import REPOSITORY, Cluster, ClusterError
from tests.store.store_kit import tiny_inputs

IMAGE = "registry.example/trainer@sha256:" + "2" * 64
SETTINGS = {"nodes": 2, "gpus_per_node": 4, "cpu": "100m", "memory": "256Mi"}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """A store that has what sft needs, of a few bytes."""
    return tiny_inputs(tmp_path)


@pytest.mark.usefixtures("training_operator")
def test_the_clusters_settings_are_in_the_manifest_and_the_api_server_takes_it(
    cluster: Cluster,
    namespace: str,
    store: FolderStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    volume = {"claim": "disk", "mount_path": "/store"}
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"launch": {"settings": {**SETTINGS, "volumes": [volume]}}}))
    chart = str(REPOSITORY / "charts" / "omnistage")
    cluster.helm("upgrade", "--install", "omnistage", chart, "-n", namespace, "-f", str(values))
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(cluster.kubeconfig.read_text())
    choose = ("config", "set-context", "--current", f"--namespace={namespace}")
    cluster.kubectl("--kubeconfig", str(kubeconfig), *choose)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.delenv("OMNISTAGE_LAUNCH_DEFAULTS", raising=False)

    arguments = ["launch", "tiny", "sft", "--dry-run", "--store", store.uri]
    arguments += ["--image", f"trainer={IMAGE}", "--set", "cluster.gpus_per_node=2"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    job = yaml.safe_load(text)
    assert job["metadata"]["namespace"] == namespace
    assert job["spec"]["nprocPerNode"] == "2"
    assert job["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] == 1
    said = cluster.kubectl("apply", "--dry-run=server", "-f", "-", text=text)
    assert said.strip().endswith("created (server dry run)")
    with pytest.raises(ClusterError):
        cluster.kubectl("get", "pytorchjob", job["metadata"]["name"], "-n", namespace)
