"""The compiled pipeline on the cluster: launcher pods, training jobs, and one store for all."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omnistage.store.open import open_store
from tests.on_cluster import site
from tests.on_cluster.harness import images, storage
from tests.on_cluster.harness.cluster import REPOSITORY
from tests.on_cluster.packages import Finished, Kubeflow
from tests.on_cluster.site import Site

pytestmark = pytest.mark.usefixtures("training_operator")
STORE = "s3://omnistage/pipeline"
STAGES = ["download", "download_model", "rewrite_paths", "sft", "grpo", "eval"]
REWARDS = "grpo.reward_weights={mm_format: 1.0, omnirl_length: 2.0}"


@pytest.fixture(scope="session")
def launcher() -> str:
    """The launcher image, built without a registry, on the nodes; its reference by digest."""
    path = REPOSITORY / "docker" / "offline.py"
    found = importlib.util.spec_from_file_location("offline", path)
    assert found
    assert found.loader
    offline = importlib.util.module_from_spec(found)
    found.loader.exec_module(offline)
    archive = offline.saved("launcher")
    images.load(archive.read_bytes())
    return images.pinned("docker.io/omnistage/launcher:offline")


@pytest.fixture(scope="module")
def kubeflow(here: Site, launcher: str, tmp_path_factory: pytest.TempPathFactory) -> Kubeflow:
    """A namespace as KFP would use it."""
    folder = tmp_path_factory.mktemp("kfp-artifacts")
    folder.chmod(0o777)
    here.cluster.apply(*storage.claim(here.namespace, "kfp-artifacts", folder))
    trainer = images.pinned(images.HOST)
    return Kubeflow(here, folder, {"launcher": launcher, "trainer": trainer})


@pytest.fixture(scope="module")
def first(kubeflow: Kubeflow, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The whole pipeline, its training jobs on two nodes."""
    package = kubeflow.compile(site.RECIPE, STORE, tmp_path_factory.mktemp("package"))
    return kubeflow.run(package, "first", {"store": STORE, "nodes": 2, "gpus_per_node": 1})


def test_every_stage_runs_and_the_run_is_summed_up(first: Finished) -> None:
    assert first.states == dict.fromkeys(STAGES, "done"), first.logs
    assert first.summary["state"] == "SUCCEEDED"
    assert {s["stage"] for s in first.summary["stages"]} == set(STAGES)


def test_training_ran_as_jobs_of_master_and_worker_on_the_gpu_pool(
    here: Site, first: Finished
) -> None:
    jobs = {
        j["metadata"]["name"]: j
        for j in here.cluster.get("pytorchjobs", "-n", here.namespace)["items"]
    }
    wanted = {s: f"{s}-{first.keys[s][:16]}-0" for s in ("download_model", "sft", "grpo", "eval")}
    encoding = f"sft-encode-{first.keys['sft'][:16]}-0"
    assert set(jobs) == {*(name.replace("_", "-") for name in wanted.values()), encoding}
    for stage in ("sft", "grpo"):
        replicas = jobs[wanted[stage]]["spec"]["pytorchReplicaSpecs"]
        assert {n: r["replicas"] for n, r in replicas.items()} == {"Master": 1, "Worker": 1}
    assert {p["spec"]["nodeName"] for p in here.pods() if holds_gpus(p)} == {"omnistage-gpu"}


def test_the_records_were_encoded_once_by_a_job_without_gpus(here: Site, first: Finished) -> None:
    holding = {p["metadata"]["labels"]["omnistage.dev/stage"]: holds_gpus(p) for p in here.pods()}
    assert holding["sft_encode"] is False
    assert holding["sft"] is True
    assert "encoding" in first.logs["sft"]
    assert not any("encoding" in first.logs[stage] for stage in ("grpo", "eval"))


def holds_gpus(pod: dict[str, Any]) -> bool:
    return any("nvidia.com/gpu" in c["resources"]["limits"] for c in pod["spec"]["containers"])


def test_progress_of_training_is_in_the_launchers_log(first: Finished) -> None:
    assert "sft: 12/12 steps, loss" in first.logs["sft"]
    assert "grpo: 2/2 steps, reward" in first.logs["grpo"]


def test_kfp_gets_manifests_with_digests_the_report_and_its_figures(
    first: Finished, kubeflow: Kubeflow
) -> None:
    [checkpoint] = first.outputs["sft"]["artifacts"]["result"]["artifacts"]
    assert checkpoint["metadata"]["key"] == first.keys["sft"]
    assert checkpoint["metadata"]["digest"].startswith("sha256:")
    evaluated = first.outputs["eval"]["artifacts"]
    [html] = evaluated["html"]["artifacts"]
    page = kubeflow.folder / html["uri"].removeprefix("s3://")
    assert "<html" in page.read_text()
    [metrics] = evaluated["metrics"]["artifacts"]
    assert 0 <= metrics["metadata"]["grpo_accuracy"] <= 100


def test_a_laptop_finds_all_that_the_cluster_computed(
    here: Site, first: Finished, tmp_path: Path
) -> None:
    home = str(tmp_path)
    command = ["run", str(site.RECIPE), "--store", STORE, "--home", home]
    subprocess.run([sys.executable, "-m", "omnistage", *command], check=True, cwd=REPOSITORY)
    shown = subprocess.run(
        [sys.executable, "-m", "omnistage", "show", "--json", "--home", home],
        check=True,
        capture_output=True,
    )
    found = {s["stage"]: s for s in json.loads(shown.stdout)["stages"]}
    assert {n: s["key"] for n, s in found.items()} == first.keys
    assert all(stage["cached"] for stage in found.values())


def test_another_reward_weight_runs_grpo_and_eval_alone(
    here: Site, first: Finished, kubeflow: Kubeflow, tmp_path: Path
) -> None:
    before = set(here.jobs())
    package = kubeflow.compile(site.RECIPE, STORE, tmp_path, REWARDS)
    second = kubeflow.run(package, "second", {"store": STORE, "nodes": 2, "gpus_per_node": 1})
    cached = dict.fromkeys(("download", "download_model", "rewrite_paths", "sft"), "cached")
    assert second.states == {**cached, "grpo": "done", "eval": "done"}, second.logs
    assert {name.split("-")[0] for name in set(here.jobs()) - before} == {"grpo", "eval"}


def test_what_is_in_the_store_creates_no_job(
    here: Site, first: Finished, kubeflow: Kubeflow, tmp_path: Path
) -> None:
    before = here.jobs()
    package = kubeflow.compile(site.RECIPE, STORE, tmp_path)
    again = kubeflow.run(package, "again", {"store": STORE})
    assert again.states == dict.fromkeys(STAGES, "cached")
    assert again.keys == first.keys
    assert here.jobs() == before


def test_a_stage_alone_from_manifest_uris_ends_in_the_same_key(
    here: Site, first: Finished, kubeflow: Kubeflow, tmp_path: Path
) -> None:
    package = kubeflow.compile(site.RECIPE, STORE, tmp_path).with_name("grpo.yaml")
    inputs = {"data": "download", "records": "rewrite_paths", "start": "sft"}
    uris = {i: first.records[s]["manifest"] for i, s in inputs.items()}
    for uri in uris.values():  # KFP's launcher puts an imported artifact where tasks look for it
        target = kubeflow.folder / uri.removeprefix("s3://")
        target.parent.mkdir(parents=True, exist_ok=True)
        open_store(STORE)
        target.write_bytes(
            here.s3.client()
            .get_object(Bucket=here.s3.bucket, Key=uri.removeprefix(f"s3://{here.s3.bucket}/"))[
                "Body"
            ]
            .read()
        )
    alone = kubeflow.run(package, "alone", {"store": STORE, **uris})
    assert alone.states == {"grpo": "cached"}
    assert alone.keys["grpo"] == first.keys["grpo"]


def test_a_stage_that_fails_tells_why_in_the_runs_summary(
    here: Site, first: Finished, kubeflow: Kubeflow, tmp_path: Path
) -> None:
    package = kubeflow.compile(site.RECIPE, STORE, tmp_path, "sft.batch_size=3")
    failed = kubeflow.run(package, "failed", {"store": STORE, "nodes": 2, "gpus_per_node": 1})
    assert failed.states["sft"] == "failed"
    assert failed.records["sft"]["exit_code"] == 2
    assert "does not divide by 2 processes" in failed.records["sft"]["message"]
    assert failed.summary["state"] == "FAILED"
    assert "does not divide by 2 processes" in json.dumps(failed.summary)
    assert all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in here.pods())
