"""``omnistage launch --dry-run``: the manifest of a stage's job, from what the store has."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from omnistage.cli.main import main
from omnistage.store.folder import FolderStore
from tests.pipelines.test_packages import PINNED
from tests.store.store_kit import tiny_inputs

IMAGE = ["--image", f"trainer={PINNED['trainer']}"]
VOLUME = ["--set", "cluster.volumes=[{claim: disk, mount_path: /store}]"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """A store that has what sft needs, and no cluster."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    return tiny_inputs(tmp_path)


def dry_run(store: FolderStore, stage: str, *more: str) -> int:
    return main(["launch", "tiny", stage, "--dry-run", "--store", store.uri, *IMAGE, *more])


def rendered(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return yaml.safe_load(capsys.readouterr().out)


def test_the_manifest_has_the_stages_settings_and_inputs(
    store: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(store, "sft", *VOLUME, "--set", "cluster.nodes=2") == 0
    job = rendered(capsys)
    assert (job["kind"], job["metadata"]["namespace"]) == ("PyTorchJob", "default")
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert replicas["Worker"]["replicas"] == 1
    (container,) = replicas["Master"]["template"]["spec"]["containers"]
    assert container["image"] == PINNED["trainer"]
    command = yaml.safe_load(container["command"][-1])
    assert set(command["inputs"]) == {"data", "records", "start"}
    assert command["inputs"]["data"].startswith(f"{store.uri}/download/")
    assert command["config"]["epochs"] == 7


def test_the_clusters_own_settings_lie_under_the_recipes(
    store: FolderStore,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    defaults = tmp_path / "launch.yaml"
    defaults.write_text("backend: trainjob\nnodes: 2\ngpus_per_node: 8\n")
    monkeypatch.setenv("OMNISTAGE_LAUNCH_DEFAULTS", str(defaults))
    assert dry_run(store, "sft", *VOLUME, "--set", "cluster.gpus_per_node=4") == 0
    job = rendered(capsys)
    assert job["kind"] == "TrainJob"
    assert (job["spec"]["trainer"]["numNodes"], job["spec"]["trainer"]["numProcPerNode"]) == (2, 4)


@pytest.mark.parametrize(
    ("stage", "more", "said"),
    [
        ("grpo", [], "grpo: the result of sft, "),
        ("download", [], "download: not a training job; those are download_model, sft, grpo, eval"),
        ("stf", [], "stf: no such step; did you mean 'sft'?"),
        ("sft", ["--set", "cluster.node_pool=gpux"], "cluster.node_pool: no pool 'gpux'"),
        ("sft", ["--image", "launcher=x"], "give the image of the job as --image trainer="),
    ],
)
def test_what_cannot_be_launched_is_refused(
    store: FolderStore, capsys: pytest.CaptureFixture[str], stage: str, more: list[str], said: str
) -> None:
    assert dry_run(store, stage, *VOLUME, *more) == 2
    assert said in capsys.readouterr().err


def test_without_a_cluster_nothing_is_launched(
    store: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["launch", "tiny", "sft", "--store", store.uri, *IMAGE, *VOLUME]) == 2
    assert "no cluster to talk to" in capsys.readouterr().err
