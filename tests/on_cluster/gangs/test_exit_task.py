"""A run that is terminated in mid-training: the exit task ends its job and says what happened.

Kubeflow Pipelines kills the task's pod within a second and leaves the training job running; then it
starts the exit task. Here a live gang stands for the training, and the compiled exit task runs as
the pod that KFP makes of it, under the launcher's own account.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from omnistage.cluster.claim import claim
from omnistage.cluster.jobs.job import ClusterJob
from omnistage.cluster.settings import ClaimMount
from omnistage.recipe.document import read_recipe, validate
from omnistage.task.run_record import SUMMARY, RunRecord
from pipelines.post_training import compile_packages
from pipelines.recipe import Recipe
from tests.on_cluster import site
from tests.on_cluster.gangs.launch_kit import Place
from tests.on_cluster.harness.cluster import REPOSITORY, Cluster
from tests.on_cluster.harness.images import HOST
from tests.on_cluster.harness.storage import S3
from tests.pipelines import kfp_tasks
from tests.pipelines.kfp_tasks import executor_input, package_tasks

IMAGES = {
    "launcher": "registry.example/launcher@sha256:" + "1" * 64,
    "trainer": "registry.example/trainer@sha256:" + "2" * 64,
}
FOREVER = "echo step 1; sleep 3600"


@pytest.fixture
def place(
    cluster: Cluster,
    training_operator: None,
    namespace: str,
    host_mounts: list[ClaimMount],
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    """A namespace with the chart, in which gangs can run."""
    from omnistage.store.s3_client import client

    for name, value in {**s3.credentials, **s3.settings}.items():
        monkeypatch.setenv(name, value)
    client.cache_clear()
    values = {
        "store": {"s3": {"endpoint": s3.url, "region": "us-east-1"}},
        "networkPolicy": {"enabled": False},
    }
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    secret, _ = s3.objects(namespace)
    cluster.apply(secret)
    chart = str(REPOSITORY / "charts" / "omnistage")
    cluster.helm("upgrade", "--install", "omnistage", chart, "-n", namespace, "-f", str(path))
    return Place.make(cluster, namespace, host_mounts, tmp_path)


def gang(place: Place, key: str, *runs: str) -> ClusterJob:
    """Start a gang that some runs wait for, and return when its first line is out."""
    job = dataclasses.replace(place.job(FOREVER, nodes=1, gpus_per_node=1), key=key * 32)
    for run in runs:
        claim(dataclasses.replace(job, run=run), place.api, lambda _: None)
    phases = [("Running",)]
    place.wait(
        "the gang",
        lambda: [(p["status"]["phase"],) for p in place.pods(job)] == phases,
    )
    return job


def end(place: Place, store: str, run: str) -> dict[str, Any]:
    """Run the exit task of a terminated run as a pod and return the summary."""
    recipe = validate(read_recipe(site.RECIPE), Recipe)
    (package,) = compile_packages(recipe, place.folder, store, IMAGES, only=["post_training"])
    task = package_tasks(package)[-1]
    pod = kfp_tasks.pod(
        task,
        executor_input(task, "s3://kfp", {}, state="FAILED"),
        name=f"exit-{run}",
        namespace=place.namespace,
        run=run,
        workflow="post-training-x7k2p",
        image=HOST,
        mounts=[m for m in place.mounts if m.claim != "state"],
    )
    place.cluster.apply(pod)

    def ended() -> str:
        found = place.cluster.get("pod", f"exit-{run}", "-n", place.namespace)
        phase = found["status"].get("phase", "")
        return phase if phase in ("Succeeded", "Failed") else ""

    phase = place.cluster.wait("the exit task", ended, 120)
    log = place.cluster.kubectl("logs", f"exit-{run}", "-n", place.namespace)
    assert phase == "Succeeded", log
    summary = RunRecord(store, run).read(SUMMARY)
    assert summary is not None
    return summary


def test_the_job_of_a_terminated_run_ends_and_the_summary_says_so(place: Place, s3: S3) -> None:
    store = f"s3://{s3.bucket}/{place.namespace}"
    job = gang(place, "a", "run-1")
    RunRecord(store, "run-1").note("sft", "running")
    summary = end(place, store, "run-1")
    assert place.leftovers(job) == []
    assert summary["cancelled"] == [job.name]
    assert summary["error"]["stage"] == "sft"
    assert "it was stopped: the run was terminated" in summary["error"]["message"]
    assert summary["wrong"] == []


def test_a_job_that_another_run_waits_for_goes_on(place: Place, s3: S3) -> None:
    store = f"s3://{s3.bucket}/{place.namespace}"
    job = gang(place, "b", "run-1", "run-2")
    assert end(place, store, "run-1")["cancelled"] == []
    (left,) = place.jobs(job)
    assert left["metadata"]["annotations"]["omnistage.dev/runs"] == "run-2"
    assert [p["status"]["phase"] for p in place.pods(job)] == ["Running"]
    assert end(place, store, "run-2")["cancelled"] == [job.name]
    assert place.leftovers(job) == []
