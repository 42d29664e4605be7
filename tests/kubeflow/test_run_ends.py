"""What ``omnistage submit`` says of a run that failed, was terminated or is gone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from omnistage.cluster.api import Api
from omnistage.errors import InputError
from omnistage.kubeflow.submit import (
    Package,
    Submission,
    follow,
    start,
    task_titles,
)
from omnistage.task.run_record import SUMMARY, RunRecord
from tests.cluster.scene import Scene
from tests.cluster.scripted_cluster import Pod
from tests.kubeflow import kfp_api
from tests.kubeflow.test_submit import api, connect, package, quick

__all__ = ["api", "package", "quick"]


def test_a_run_that_was_deleted_ends_the_wait(api: kfp_api.Server) -> None:
    with pytest.raises(InputError, match="no longer has it"):
        follow("gone", connect(api), {}, "file:///store", lambda _: None)


def test_a_run_that_failed_ends_with_its_stages_error_and_exit_code(
    api: kfp_api.Server, package: Package, tmp_path: Path
) -> None:
    api.script = [("FAILED", {"sft": "FAILED", "grpo": "SKIPPED"})]
    store = (tmp_path / "store").as_uri()
    run = start(Submission(package, "e"), connect(api), tmp_path, lambda _: None)
    error = {"stage": "sft", "exit_code": 2, "message": "sft.jsonl:7: no answer"}
    RunRecord(store, run).write(
        SUMMARY, {"state": "FAILED", "error": error, "cancelled": [], "stages": []}
    )
    said: list[str] = []
    assert follow(run, connect(api), task_titles(package), store, said.append) == 2
    assert said[-1] == "error: sft (exit code 2): sft.jsonl:7: no answer"
    assert [line.partition(" ")[2] for line in said[:2]] == ["sft: failed", "grpo: not run"]


def test_a_run_whose_summary_is_out_of_reach_says_what_kfp_knows(
    api: kfp_api.Server, package: Package, tmp_path: Path
) -> None:
    api.script, api.error = [("FAILED", {"sft": "FAILED"})], "task exceeded its deadline"
    run = start(Submission(package, "e"), connect(api), tmp_path, lambda _: None)
    said: list[str] = []
    store = (tmp_path / "none").as_uri()
    assert follow(run, connect(api), task_titles(package), store, said.append) == 1
    assert said[-1].startswith(
        "error: the run ended as FAILED; failed: sft; task exceeded its deadline. It left no "
    )


def test_a_run_that_ended_before_its_first_task_says_which_pod_failed(
    api: kfp_api.Server, package: Package, tmp_path: Path
) -> None:
    """Such as for an account without the rights that KFP's driver needs."""
    api.script = [("FAILED", {"root-driver": "FAILED", "root-driver(0)": "FAILED"})]
    run = start(Submission(package, "e"), connect(api), tmp_path, lambda _: None)
    said: list[str] = []
    store = (tmp_path / "none").as_uri()
    assert follow(run, connect(api), task_titles(package), store, said.append) == 1
    assert said[-1].startswith("error: the run ended as FAILED; failed: root-driver. It left no ")
    assert f"-l pipeline/runid={run}" in said[-1]


def test_a_store_that_does_not_answer_does_not_hide_how_the_run_ended(
    api: kfp_api.Server, package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omnistage.store.s3_client import client

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    client.cache_clear()
    api.script = [("FAILED", {"sft": "FAILED"})]
    run = start(Submission(package, "e"), connect(api), tmp_path, lambda _: None)
    said: list[str] = []
    assert follow(run, connect(api), task_titles(package), "s3://bucket/s", said.append) == 1
    client.cache_clear()
    assert "the run ended as FAILED; failed: sft" in said[-1]


def test_a_terminated_run_has_stopped_stages_and_stages_that_did_not_run(
    api: kfp_api.Server, package: Package, tmp_path: Path
) -> None:
    api.script = [
        ("RUNNING", {"download": "SUCCEEDED", "sft": "RUNNING"}),
        ("CANCELING", {"sft": "RUNNING"}),
        ("FAILED", {"sft": "FAILED", "grpo": "SKIPPED"}),
    ]
    run = start(Submission(package, "e"), connect(api), tmp_path, lambda _: None)
    said: list[str] = []
    store = tmp_path.as_uri() + "/nowhere"
    assert follow(run, connect(api), task_titles(package), store, said.append) == 1
    words = [line.partition(" ")[2] for line in said]
    assert "sft: stopped" in words
    assert "grpo: not run" in words


def test_what_the_workflow_says_and_the_jobs_that_still_run_are_told(
    api: kfp_api.Server,
    package: Package,
    tmp_path: Path,
    scene: Callable[..., Scene],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No exit task ran, and the cluster can be read from here."""
    api.script = [("FAILED", {})]
    run = start(Submission(package, "e"), connect(api), tmp_path, lambda _: None)
    here = scene(Pod(ends=5000))
    here.leave(here.job(run=run))
    status = {
        "phase": "Error",
        "message": 'pods "x" is forbidden: error looking up service account team/nobody',
    }
    metadata = {"name": "w", "labels": {"pipeline/runid": run}}
    here.cluster.put("workflows", {"metadata": metadata, "status": status})
    monkeypatch.setattr(Api, "connect", lambda *_: here.cluster.api())

    said: list[str] = []
    titles, store = task_titles(package), (tmp_path / "none").as_uri()
    assert follow(run, connect(api), titles, store, said.append, namespace="team") == 1
    text = "\n".join(said)
    assert "error looking up service account team/nobody" in text
    assert f"kubectl -n team get pods -l pipeline/runid={run}" in text
    name = here.job().name
    assert f"still running: job {name}" in text
    assert f"`kubectl -n team delete pytorchjobs/{name}` ends it" in text
