"""A stage's program in a pod: its error as data, and its end when it is told to stop."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import NoCredentialsError

from omnistage.cluster.jobs.pod import TERMINATION_VARIABLE
from omnistage.errors import ErrorReport, InputError
from omnistage.stage.contract import Context, Result, Stage
from omnistage.store.s3_client import s3_errors
from omnistage.store.uris import NAMESPACE_VARIABLE, SECRET_VARIABLE
from omnistage.task.program import main
from omnistage.torchrun.job import TorchrunJob
from omnistage.torchrun.run import run as run_job
from tests.stage.test_execute import Copy

# The training process, and one below it as torchrun has them.
TRAINS = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
child.wait()
"""


def fail(context: Context[Copy]) -> Result:
    if context.config.text == "wrong":
        raise InputError("records.jsonl: line 7: no messages")
    return {}[context.config.text]


def train(context: Context[Copy]) -> Result:
    program = ("-c", TRAINS, context.config.text)
    run_job(TorchrunJob("training", program, context.work / "log"), lambda: None)
    return Result()


FAILS = Stage("download", "DatasetTarball", 1, Copy, {}, fail)
LASTS = Stage("download", "DatasetTarball", 1, Copy, {}, train)


def spec(tmp_path: Path, text: str) -> list[str]:
    given = {"config": {"text": text}, "store": (tmp_path / "store").as_uri()}
    return ["--spec", json.dumps(given)]


def test_an_error_goes_into_the_pods_termination_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "termination-log"
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv(TERMINATION_VARIABLE, str(log))
    try:
        assert main(FAILS, spec(tmp_path, "wrong")) == 2
        told = ErrorReport.parse(log.read_text())
        assert told == ErrorReport("InputError", 2, "records.jsonl: line 7: no messages")

        assert main(FAILS, spec(tmp_path, "fails")) == 1
        told = ErrorReport.parse(log.read_text())
        assert told is not None
        assert (told.kind, told.exit_code) == ("KeyError", 1)
        # The last line that a user sees is the same.
        assert capsys.readouterr().err.splitlines()[-1] == f"download: error: {told.message}"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_of_a_pod_nothing_is_written_and_signals_are_left_alone(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(FAILS, spec(tmp_path, "wrong")) == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_pod_that_is_told_to_stop_ends_its_training_processes_and_itself(tmp_path: Path) -> None:
    ready, log = tmp_path / "ready", tmp_path / "termination-log"
    os.mkfifo(ready)
    log.touch()
    program = "import sys; from tests.task.test_program import LASTS, main; sys.exit(main(LASTS))"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *spec(tmp_path, str(ready))],
        env={**os.environ, TERMINATION_VARIABLE: str(log)},
    )
    training = [psutil.Process(int(pid)) for pid in ready.read_text().split()]
    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == 143
    assert psutil.wait_procs(training, timeout=10)[1] == []
    assert log.read_text() == ""
    assert not any((tmp_path / "store").rglob("manifest.json"))


def test_an_input_that_is_gone_is_named_with_what_brings_it_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage("sft", "SFTCheckpoint", 1, Copy, {"records": "RewrittenJSONL"}, fail)
    gone = (tmp_path / "store/rewrite_paths/abc/manifest.json").as_uri()
    given = {"config": {"text": ""}, "store": (tmp_path / "store").as_uri()}
    assert main(stage, ["--spec", json.dumps({**given, "inputs": {"records": gone}})]) == 2
    said = capsys.readouterr().err
    assert "input 'records'" in said
    assert "--no-cache" in said


def test_a_pod_without_credentials_is_told_the_name_of_the_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, "omnistage-store")
    monkeypatch.setenv(NAMESPACE_VARIABLE, "team")
    said = "Secret omnistage-store of namespace team"
    with pytest.raises(InputError, match=said), s3_errors("reading s3://bucket/x"):
        raise NoCredentialsError
