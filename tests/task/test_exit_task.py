"""What the exit task does about jobs: of a terminated run, a failed one, one that lost a pod."""

from typing import Any

import pytest

from omnistage.cluster.api import Api
from omnistage.task.exit_task import end_run, read_summary
from omnistage.task.run_record import RunRecord
from tests.cluster.scene import other_run
from tests.cluster.scripted_cluster import Pod

LONG = Pod(ends=2000)


@pytest.fixture
def here(scene, monkeypatch, tmp_path):
    """A run whose launcher is gone while its job goes on."""
    made = scene(LONG)
    made.leave(made.job())
    made.store = tmp_path.as_uri()
    monkeypatch.setattr(Api, "connect", lambda *_: made.cluster.api())
    monkeypatch.setenv("OMNISTAGE_RUN_ID", "run-1")
    monkeypatch.setenv("OMNISTAGE_WORKFLOW", "run-1")
    return made


def end(here, record: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "run-1", "uid": "uid-run-1"}
    here.cluster.put("workflows", {"metadata": metadata, "spec": spec, "status": {}})
    fields = {"exit_code": 1, "message": "bad batch"} if record == "failed" else {}
    RunRecord(here.store, "run-1").note("sft", record, **fields)  # type: ignore[arg-type]
    end_run(here.store, ["sft"], "FAILED", "")
    summary = read_summary(here.store, "run-1")
    assert summary is not None
    return summary


def test_the_job_of_a_terminated_run_is_ended(here, capsys):
    summary = end(here, "running", activeDeadlineSeconds=0)

    assert summary["cancelled"] == [here.job().name]
    assert summary["running"] == []
    assert here.cluster.jobs() == here.cluster.pods() == []
    assert "sft: stopped" in capsys.readouterr().out


def test_a_job_whose_launchers_pod_was_lost_goes_on_and_the_next_run_follows_it(here, capsys):
    (before,) = here.cluster.jobs()
    summary = end(here, "running")

    assert summary["cancelled"] == []
    assert summary["running"] == [f"pytorchjobs/{here.job().name}"]
    out = capsys.readouterr().out
    assert f"still running: job {here.job().name}" in out
    assert f"`kubectl -n team delete pytorchjobs/{here.job().name}` ends it" in out
    assert here.launch(other_run(here.job())).error is None
    assert here.cluster.made == [before["metadata"]["uid"]]


def test_the_job_of_a_run_with_a_failed_stage_is_ended(here):
    assert end(here, "failed")["cancelled"] == [here.job().name]


def test_a_job_that_another_run_waits_for_is_named(here):
    here.leave(other_run(here.job()))
    summary = end(here, "running", shutdown="Terminate")

    assert summary["cancelled"] == []
    assert summary["running"] == [f"pytorchjobs/{here.job().name}"]


def test_a_run_whose_workflow_cannot_be_read_is_taken_for_terminated(here):
    here.cluster.answer("GET", "/workflows/", 404)
    assert end(here, "running")["cancelled"] == [here.job().name]
