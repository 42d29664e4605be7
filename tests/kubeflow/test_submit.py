"""``omnistage submit`` against a server that speaks KFP's API and can refuse."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from omnistage.cli import main as cli
from omnistage.cli.main import main
from omnistage.errors import InputError, TransientError
from omnistage.kubeflow import submit
from omnistage.kubeflow.server import PipelinesServer
from omnistage.kubeflow.submit import (
    Package,
    Submission,
    follow,
    parse_parameters,
    start,
    task_titles,
)
from omnistage.task.run_record import RunRecord
from tests.kubeflow import kfp_api
from tests.pipelines.test_packages import PINNED, RECIPE, compiled

SUCCESS: list[tuple[str, dict[str, str]]] = [
    ("PENDING", {}),
    ("RUNNING", {"download": "SKIPPED", "rewrite-paths": "RUNNING", "rewrite-paths-driver": "X"}),
    ("RUNNING", {"download": "SKIPPED", "rewrite-paths": "SUCCEEDED", "eval": "RUNNING"}),
    ("SUCCEEDED", {"rewrite-paths": "SUCCEEDED", "eval": "SUCCEEDED", "end-run": "SUCCEEDED"}),
]


@pytest.fixture
def api() -> Iterator[kfp_api.Server]:
    with kfp_api.serve() as server:
        server.script = list(SUCCESS)
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No waiting between two looks or tries, and no settings of the user's own."""
    real = time.sleep
    monkeypatch.setattr(time, "sleep", lambda _: real(0.001))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    made = compiled(tmp_path_factory.mktemp("p"), only=["post_training"])["post_training"]
    return Package(made.read_bytes())


def connect(api: kfp_api.Server, patience: float = 600) -> PipelinesServer:
    return PipelinesServer(api.url, None, lambda _: None, patience)


def command(api: kfp_api.Server, *more: str) -> list[str]:
    images = [f"--image={name}={reference}" for name, reference in PINNED.items()]
    store = ["--store", "file:///store"]
    return ["submit", str(RECIPE), "--endpoint", api.url, *store, *images, *more]


def test_a_recipe_is_compiled_uploaded_run_and_followed(
    api: kfp_api.Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(command(api, "--param", "nodes=2", "--param", "queue=team")) == 0
    (run,) = api.runs.values()
    assert run["runtime_config"]["parameters"] == {"nodes": 2, "queue": "team"}
    (pipeline,) = api.pipelines.values()
    assert pipeline["display_name"] == "post-training-golden"
    (version,) = api.versions.values()
    (written,) = (tmp_path / ".omnistage/packages").iterdir()
    digest = hashlib.sha256(written.read_bytes()).hexdigest()[:12]
    assert version["display_name"] == digest
    assert written.name == f"post-training-golden-{digest}.yaml"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"run {run['display_name']}: started"
    assert lines[1] == f"{api.url}/#/runs/details/{run['run_id']}"
    assert [line.partition(" ")[2] for line in lines[2:]] == [
        "download: cached",
        "rewrite_paths: running",
        "rewrite_paths: done",
        "eval: running",
        "eval: done",
        "exit: done",
    ]


def test_what_was_there_before_is_called_cached_although_kfp_says_that_it_succeeded(
    api: kfp_api.Server, package: Package, tmp_path: Path
) -> None:
    """KFP 2.17 reports SUCCEEDED for a task that it took from its cache: it left no record."""
    names = ("download", "rewrite-paths", "sft", "end-run")
    api.script = [("SUCCEEDED", dict.fromkeys(names, "SUCCEEDED"))]
    store = (tmp_path / "store").as_uri()
    run = start(Submission(package, "e"), connect(api), tmp_path, lambda _: None)
    RunRecord(store, run).note("rewrite_paths", "cached")
    RunRecord(store, run).note("sft", "done")
    said: list[str] = []
    assert follow(run, connect(api), task_titles(package), store, said.append) == 0
    assert [line.partition(" ")[2] for line in said] == [
        "download: cached",
        "rewrite_paths: cached",
        "sft: done",
        "exit: done",
    ]


def test_the_same_version_is_uploaded_once_and_a_finished_run_gives_a_new_one(
    api: kfp_api.Server,
) -> None:
    assert main(command(api)) == 0
    assert main(command(api)) == 0
    assert len(api.versions) == len(api.pipelines) == len(api.experiments) == 1
    assert len(api.runs) == 2


def test_a_run_that_was_left_is_followed_again(
    api: kfp_api.Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(submit.time, "sleep", stop)
        assert main(command(api)) == 130
    said = capsys.readouterr()
    assert "the run goes on; the same command follows it again" in said.err
    assert main(command(api)) == 0
    (run,) = api.runs.values()
    out = capsys.readouterr().out
    assert f"run {run['display_name']} goes on; following it" in out
    assert "exit: done" in out


@pytest.mark.parametrize("more", [["--param", "nodes=3"], ["--experiment", "other"]])
def test_another_submission_does_not_follow_that_run(api: kfp_api.Server, more: list[str]) -> None:
    api.script = [("RUNNING", {})]
    assert main(command(api, "--no-follow")) == 0
    assert main(command(api, "--no-follow", *more)) == 0
    assert main(command(api, "--no-follow")) == 0
    assert len(api.runs) == 2


def test_from_takes_what_comes_before_from_the_store(api: kfp_api.Server) -> None:
    assert main(command(api, "--from", "grpo")) == 0
    (version,) = api.versions.values()
    executors = version["pipeline_spec"]["deploymentSpec"]["executors"]
    only = {
        variable["value"]
        for executor in executors.values()
        for variable in executor["container"]["env"]
        if variable["name"] == "OMNISTAGE_CACHED_ONLY"
    }
    assert only == {"download", "download_model", "rewrite_paths", "sft"}


def test_without_kfps_cache_every_task_runs(api: kfp_api.Server) -> None:
    assert main(command(api, "--no-cache")) == 0
    (version,) = api.versions.values()
    dag = version["pipeline_spec"]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert not any(task.get("cachingOptions") for task in dag.values())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--param", "node=2"], "--param node: no such parameter; did you mean 'nodes'?"),
        (["--param", "nodes=two"], "--param nodes: expected a whole number, not 'two'"),
        (["--param", "nodes"], "--param nodes: expected name=value"),
        (["--from", "grop"], "--from grop: no such step; did you mean 'grpo'?"),
        (["--set", "cluster.nodes=0"], "--set cluster.nodes: 0 is out of range"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_sent(
    api: kfp_api.Server, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert main(command(api, *more)) == 2
    assert said in capsys.readouterr().err
    assert api.requests == []


def test_what_the_server_refuses_is_an_input_error_in_its_words(
    api: kfp_api.Server, package: Package, tmp_path: Path
) -> None:
    wrong = Submission(package, "e", parameters={"node_pool": 1}, endpoint=api.url)
    with pytest.raises(InputError, match="400 input parameter node_pool requires type STRING"):
        start(wrong, connect(api), tmp_path, lambda _: None)
    broken = Package(b"pipelineInfo: {name: x}\n")
    with pytest.raises(InputError, match="400 Failed to validate the pipeline template"):
        start(Submission(broken, "e"), connect(api), tmp_path, lambda _: None)
    assert api.runs == {}


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_asks_for_a_login_says_so(
    api: kfp_api.Server, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    api.faults = [("GET", "/experiments", status)]
    assert main(command(api)) == 2
    assert f"{status} told to fail; log in to it" in capsys.readouterr().err


def test_a_server_that_stumbles_is_waited_for(
    api: kfp_api.Server, capsys: pytest.CaptureFixture[str]
) -> None:
    api.faults = [
        ("GET", "/healthz", 503),
        ("GET", "/experiments", 0),
        ("POST", "/pipelines/upload", 500),
        ("GET", "/versions", 429),
        *[("GET", "/runs/", status) for status in (502, 0, 503, 504)],
    ]
    assert main(command(api)) == 0
    assert len(api.runs) == 1
    assert api.faults == []
    assert "exit: done" in capsys.readouterr().out


@pytest.mark.parametrize("status", [500, 0, -1])
def test_a_run_whose_creation_was_not_answered_is_not_started_twice(
    api: kfp_api.Server, package: Package, tmp_path: Path, status: int
) -> None:
    api.faults = [("POST", "/runs", status)]
    run = start(Submission(package, "e"), connect(api), tmp_path, lambda _: None)
    assert list(api.runs) == [run]


def test_a_run_of_the_same_name_from_before_is_not_taken_for_ones_own(
    api: kfp_api.Server, package: Package, tmp_path: Path
) -> None:
    server = connect(api)
    first = start(Submission(package, "e", "mine"), server, tmp_path / "a", lambda _: None)
    api.faults = [("POST", "/runs", -1)]
    second = start(Submission(package, "e", "mine"), server, tmp_path / "b", lambda _: None)
    assert first != second
    assert set(api.runs) == {first, second}


def test_a_crash_between_creating_and_writing_it_down_loses_nothing(
    api: kfp_api.Server, package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission, server = Submission(package, "e"), connect(api)
    real = submit.write_json

    def crash(path: Path, value: dict[str, Any]) -> None:
        if "run" in value:
            raise KeyboardInterrupt
        real(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(submit, "write_json", crash)
        with pytest.raises(KeyboardInterrupt):
            start(submission, server, tmp_path, lambda _: None)
    run = start(submission, server, tmp_path, lambda _: None)
    assert list(api.runs) == [run]


def test_a_server_that_is_gone_for_good_is_given_up(
    package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with kfp_api.serve() as api:
        server = connect(api, patience=0.05)
        api.script = [("RUNNING", {})]
        run = start(Submission(package, "e"), server, tmp_path, lambda _: None)
    with pytest.raises(TransientError, match="Kubeflow Pipelines does not answer"):
        follow(run, server, {}, "file:///store", lambda _: None)


def test_titles_are_those_of_the_stages(package: Package) -> None:
    titles = task_titles(package)
    assert titles["eval"] == "eval"
    assert titles["end-run"] == "exit"
    assert len(titles) == 7


def test_parameters_have_the_types_of_the_package(package: Package) -> None:
    given = ["nodes=2", "queue=7", "data=s3://b/a=b"]
    assert parse_parameters(given, package) == {"nodes": 2, "queue": "7", "data": "s3://b/a=b"}


def test_state_files_hold_no_more_than_names_and_ids(api: kfp_api.Server, tmp_path: Path) -> None:
    assert main(command(api, "--no-follow", "--home", str(tmp_path / "h"))) == 0
    (state,) = (tmp_path / "h" / "submits").glob("*.json")
    assert set(json.loads(state.read_text())) == {"name", "before", "run"}
    assert cli.main(["show", "--all", "--home", str(tmp_path / "h")]) == 0


def test_two_submissions_from_one_folder_each_send_their_own_recipe(
    api: kfp_api.Server, tmp_path: Path
) -> None:
    """What is named, sent and kept are the bytes that were read once."""
    paths = [
        compiled(tmp_path / first, only=["post_training"], first=first)["post_training"]
        for first in ("sft", "grpo")
    ]
    made = [Package(path.read_bytes()) for path in paths]
    both = threading.Barrier(2)

    def submit_one(package: Package) -> None:
        server = connect(api)
        both.wait(300)
        start(Submission(package, "e"), server, tmp_path / "home", lambda _: None)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(submit_one, made))

    sent = {v["display_name"]: v["pipeline_spec"] for v in api.versions.values()}
    assert sent == {p.digest[:12]: p.pipeline for p in made}
    kept = {f.read_bytes() for f in (tmp_path / "home/packages").iterdir()}
    assert kept == {p.data for p in made}


def test_a_run_whose_page_does_not_open_is_followed_without_an_address(
    api: kfp_api.Server, capsys: pytest.CaptureFixture[str]
) -> None:
    api.page = False
    assert main(command(api)) == 0
    assert "#/runs/details" not in capsys.readouterr().out
