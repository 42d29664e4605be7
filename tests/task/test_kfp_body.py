"""A stage inside its KFP task, and the exit task: retries, records, the summary of a run."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnistage.errors import InputError, StageFailedError, TransientError
from omnistage.kubeflow.types import DatasetTarball
from omnistage.recipe.document import find_recipe, read_recipe, validate, with_overrides
from omnistage.stage.contract import Context, Result, Stage
from omnistage.store.folder import FolderStore
from omnistage.store.layout import Store
from omnistage.task import exit_task as run_end
from omnistage.task import kfp_body
from omnistage.task.exit_task import Jobs, describe, end_run, read_summary, run_state, summarize
from omnistage.task.kfp_body import run_stage
from omnistage.task.run_record import SUMMARY, RunRecord
from pipelines.post_training import compile_packages
from pipelines.recipe import Recipe
from tests.clock import FakeClock
from tests.pipelines.kfp_tasks import Task, executor_input, package_tasks, read_output, run_here
from tests.pipelines.test_packages import PINNED
from tests.stage.test_execute import Copy

STAGE_NAME = "download"
FAULTS: list[Exception] = []
"""What the next tries of the stage end with."""


def run(context: Context[Copy]) -> Result:
    if FAULTS:
        raise FAULTS.pop(0)
    (context.out / "text").write_text(context.config.text)
    return Result(counts={"files": 1})


STAGE = Stage(STAGE_NAME, "DatasetTarball", 1, Copy, {}, run)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The run of a task on a cluster, whose waits are only written down."""
    clock = FakeClock()
    monkeypatch.setenv("OMNISTAGE_RUN_ID", "run-1")
    monkeypatch.setenv("OMNISTAGE_POD_NAME", "pod-1")
    # In this module alone: the threads of the S3 server sleep too.
    monkeypatch.setattr(kfp_body, "time", clock)
    FAULTS.clear()
    return clock.slept


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., DatasetTarball]:
    """Runs the stage as its component does."""

    def call(store: str, **options: Any) -> DatasetTarball:
        output = DatasetTarball(name="tarball", uri=str(tmp_path / "out" / "tarball"))
        run_stage(STAGE, STAGE_NAME, options.pop("config", "{}"), store, output, **options)
        return output

    return call


def record(store: str) -> dict[str, Any]:
    found = RunRecord(store, "run-1").read(STAGE_NAME)
    assert found is not None
    return found


def test_a_transient_error_is_retried_and_said(
    slept: list[float],
    work: Callable[..., DatasetTarball],
    store: Store,
    capsys: pytest.CaptureFixture[str],
) -> None:
    FAULTS.extend([TransientError("the server is busy"), TransientError("still busy")])
    made = work(store.uri)
    assert slept == [10, 30]
    assert "download: warning: a transient error (try 1 of 4); trying again in 10 s" in (
        capsys.readouterr().err
    )
    assert record(store.uri) | {"time": 0, "seconds": 0} == {
        "stage": "download",
        "state": "done",
        "time": 0,
        "pod": "pod-1",
        "key": made.metadata["key"],
        "manifest": made.metadata["manifest"],
        "seconds": 0,
    }


def test_what_a_retry_does_not_mend_is_not_tried_again(
    slept: list[float], work: Callable[..., DatasetTarball], store: Store
) -> None:
    for fault, code in ((InputError("line 7"), 2), (StageFailedError("no memory"), 1)):
        FAULTS.append(fault)
        with pytest.raises(SystemExit) as e:
            work(store.uri)
        assert e.value.code == code
        assert record(store.uri)["exit_code"] == code
        assert record(store.uri)["message"] == str(fault)
    assert slept == []


def test_a_fault_that_does_not_pass_ends_the_stage_with_its_code(
    slept: list[float], work: Callable[..., DatasetTarball], tmp_path: Path
) -> None:
    FAULTS.extend(TransientError(f"busy {n}") for n in range(4))
    with pytest.raises(SystemExit) as e:
        work(tmp_path.as_uri())
    assert e.value.code == 75
    assert slept == [10, 30, 90]
    assert record(tmp_path.as_uri())["message"] == "busy 3"


def test_on_a_laptop_nothing_is_tried_again_or_recorded(
    slept: list[float],
    work: Callable[..., DatasetTarball],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMNISTAGE_RUN_ID")
    FAULTS.append(TransientError("busy"))
    with pytest.raises(SystemExit) as e:
        work(tmp_path.as_uri())
    assert e.value.code == 75
    assert slept == []
    assert not (tmp_path / "runs").exists()


def test_a_result_that_is_there_is_recorded_as_cached(
    slept: list[float], work: Callable[..., DatasetTarball], store: Store
) -> None:
    work(store.uri)
    work(store.uri)
    assert record(store.uri)["state"] == "cached"


def test_a_wrong_parameter_is_recorded_too(
    slept: list[float], work: Callable[..., DatasetTarball], tmp_path: Path
) -> None:
    def change(_: dict[str, Any]) -> dict[str, Any]:
        raise InputError("source 'ftp://x': expected hf://")

    with pytest.raises(SystemExit) as e:
        work(tmp_path.as_uri(), change=change)
    assert e.value.code == 2
    assert record(tmp_path.as_uri())["message"] == "source 'ftp://x': expected hf://"


def test_no_secret_of_the_environment_is_written_down(
    slept: list[float],
    work: Callable[..., DatasetTarball],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    FAULTS.append(InputError("GET https://u:hf_very_secret@host: 403"))
    with pytest.raises(SystemExit):
        work(store.uri)
    assert record(store.uri)["message"] == "GET https://***@host: 403"


def test_a_record_that_cannot_be_written_does_not_hide_the_stages_error(
    slept: list[float],
    work: Callable[..., DatasetTarball],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "runs").write_text("in the way")
    FAULTS.append(StageFailedError("no memory"))
    with pytest.raises(SystemExit) as e:
        work(tmp_path.as_uri())
    assert e.value.code == 1
    err = capsys.readouterr().err
    assert "download: warning: the run's record was not written" in err
    assert "download: error: no memory" in err


def test_parameters_of_the_run_go_over_the_compiled_launch_settings(
    slept: list[float],
    work: Callable[..., DatasetTarball],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    def fake_main(stage: Any, arguments: list[str]) -> int:
        seen.append(json.loads(Path(arguments[1]).read_text())["runtime"])
        return 2

    monkeypatch.setattr(kfp_body, "main", fake_main)
    cluster = {"node_pool": "", "queue": "team", "nodes": 4, "gpus_per_node": 0}
    compiled = {"cluster": {"image": "i", "settings": {"nodes": 1, "gpus_per_node": 8}}}
    for runtime in (compiled, {"nproc_per_node": 2}):
        with pytest.raises(SystemExit):
            work(tmp_path.as_uri(), runtime=json.dumps(runtime), cluster=cluster)
    assert seen == [
        {"cluster": {"image": "i", "settings": {"nodes": 4, "gpus_per_node": 8, "queue": "team"}}},
        {"nproc_per_node": 2},
    ]


def failed(stage: str, time: float, message: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "state": "failed",
        "time": time,
        "kind": "StageFailedError",
        "exit_code": 1,
        "message": message,
    }


def test_the_summary_names_the_stage_that_failed_first() -> None:
    records = {
        "download": failed("download", 20.0, "second"),
        "download_model": failed("download_model", 10.0, "first"),
        "rewrite_paths": None,
    }
    summary = summarize(records, "FAILED", "", Jobs("team", ["sft-0-0"], ["pytorchjobs/grpo-0-0"]))
    assert summary["error"] == {
        "stage": "download_model",
        "kind": "StageFailedError",
        "exit_code": 1,
        "message": "first",
    }
    assert [r["state"] for r in summary["stages"]] == ["failed", "failed", "no record"]
    assert describe(summary) == [
        "run: failed",
        "download: failed",
        "download_model: failed",
        "rewrite_paths: not run",
        "cancelled: job sft-0-0",
        "still running: job grpo-0-0; a run that needs its result follows it, "
        "`kubectl -n team delete pytorchjobs/grpo-0-0` ends it",
        "error: download_model (exit code 1): first",
    ]


@pytest.mark.parametrize(
    ("records", "state", "message", "said"),
    [
        ({"sft": {"stage": "sft", "state": "running", "time": 1.0}}, "FAILED", "", "terminated"),
        ({"sft": None}, "FAILED", "", "no stage says that it failed"),
        ({"sft": None}, "FAILED", "image pull", "image pull"),
        ({"sft": failed("sft", 1.0, "")}, "FAILED", "", "it gave no reason"),
    ],
)
def test_a_run_that_was_stopped_or_never_began_says_so(
    records: dict[str, Any], state: str, message: str, said: str
) -> None:
    assert said in summarize(records, state, message, Jobs())["error"]["message"]


@pytest.mark.parametrize(
    ("said", "stages", "ended"),
    [
        ("SUCCEEDED", {"done", "cached", "no record"}, "SUCCEEDED"),
        ("COMPLETE", {"done"}, "SUCCEEDED"),
        ("CACHED", {"no record"}, "SUCCEEDED"),
        ("RUNNING", {"done", "no record"}, "SUCCEEDED"),
        ("RUNNING", {"done", "running"}, "FAILED"),
        ("RUNNING", {"done", "failed"}, "FAILED"),
        ("SUCCEEDED", {"failed"}, "FAILED"),
        ("FAILED", {"no record"}, "FAILED"),
        ("CANCELLED", {"running"}, "CANCELED"),
    ],
)
def test_the_state_of_a_run_is_understood_from_every_version_of_kfp(
    said: str, stages: set[str], ended: str
) -> None:
    assert run_state(said, stages) == ended


def test_a_run_that_succeeded_has_no_error() -> None:
    done = {"stage": "sft", "state": "done", "time": 1.0, "key": "abc"}
    summary = summarize({"download": None, "sft": done}, "SUCCEEDED", "", Jobs())
    assert summary["error"] is None
    assert describe(summary) == [
        "run: succeeded",
        "download: not run: taken from KFP's cache",
        "sft: done, key abc",
    ]


def test_the_exit_task_writes_one_summary_of_all_records(
    slept: list[float],
    work: Callable[..., DatasetTarball],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    jobs = functools.partial(Jobs, "team")
    monkeypatch.setattr(run_end, "end_jobs", lambda run, **_: jobs([f"sft-of-{run}"]))
    FAULTS.append(StageFailedError("no memory"))
    with pytest.raises(SystemExit):
        work(store.uri)
    end_run(store.uri, ["download", "sft"], "FAILED", "")
    summary = read_summary(store.uri, "run-1")
    assert summary is not None
    assert summary["error"] == {
        "stage": "download",
        "kind": "StageFailedError",
        "exit_code": 1,
        "message": "no memory",
    }
    assert summary["cancelled"] == ["sft-of-run-1"]
    out = capsys.readouterr().out
    assert "error: download (exit code 1): no memory" in out
    assert f"summary: {store.uri}/runs/run-1/summary.json" in out


def test_the_exit_task_fails_but_writes_the_summary_when_jobs_may_be_left(
    slept: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(SystemExit):
        end_run(tmp_path.as_uri(), ["sft"], "FAILED", "")
    summary = read_summary(tmp_path.as_uri(), "run-1")
    assert summary is not None
    (wrong,) = summary["wrong"]
    assert wrong.startswith("jobs of this run may be left running: no cluster to talk to")


def test_the_compiled_tasks_of_a_recipe_make_what_the_laptop_makes(tmp_path: Path) -> None:
    """The first stages of the package, run one by one as KFP runs them, share the store."""
    small = "data.tiny.sources.0.settings={sft: 6, rl: 6, test: 6}"
    document = with_overrides(read_recipe(find_recipe("tiny")), [small], Recipe)
    recipe = validate(document, Recipe)
    (package,) = compile_packages(
        recipe, tmp_path, "s3://bucket/store", PINNED, only=["post_training"]
    )
    store = (tmp_path / "store").as_uri()
    tasks = {t.title: t for t in package_tasks(package, {"store": store})}
    outputs: dict[str, Any] = {}
    env = {"OMNISTAGE_RUN_ID": "run-1", "HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "no")}
    env["OMNISTAGE_SCRATCH"] = str(tmp_path / "scratch")

    def go(task: Task, **options: Any) -> str:
        given = executor_input(task, str(tmp_path / "kfp"), outputs, **options)
        done = run_here(task, given, env)
        if done.returncode == 0:
            outputs[task.name] = read_output(given)
        return f"{done.returncode}\n{done.stdout}{done.stderr}"

    assert go(tasks["download"]).startswith("0\n")
    assert go(tasks["rewrite_paths"]).startswith("0\n")
    made = outputs["rewrite-paths"]["artifacts"]["result"]["artifacts"][0]
    assert made["metadata"]["manifest"].startswith(f"{store}/rewrite_paths/")
    found = FolderStore(tmp_path / "store").find("rewrite_paths", made["metadata"]["key"])
    assert found is not None
    assert Path(made["uri"]).read_bytes() == found.to_json()
    said = go(tasks["exit"], state="FAILED")
    assert "rewrite_paths: done, key" in said
    assert "no cluster to talk to" in said
    assert RunRecord(store, "run-1").read(SUMMARY) is not None
