"""A run is shown while it goes on, ends with its parent and says how it ended."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from omnistage.runs.folder import EventReader, new_run, read_run
from omnistage.runs.live import LiveTable, PlainLines
from omnistage.runs.supervise import supervise

CHILD = [sys.executable, str(Path(__file__).parents[1] / "recipes" / "fake_child.py")]
STAGES = ["download", "sft", "eval"]
REPORT = {
    "headline": {
        "metric": "accuracy",
        "models": {
            "base": {"value": 0.5, "low": 0.41, "high": 0.59},
            "sft": {"value": 0.8125, "low": 0.7, "high": 0.9},
        },
    }
}
DONE = {"key": "0123456789abcdef", "cached": False, "seconds": 65.0, "uri": "file:///s/download/x"}


def started(stage: str) -> list[Any]:
    return ["event", stage, "started", {"key": "0123456789abcdef"}]


def event(stage: str, kind: str, at: float = 1000.0, **fields: Any) -> dict[str, Any]:
    return {"time": at, "stage": stage, "event": kind, **fields}


def progress(done: int, at: float, **figures: Any) -> dict[str, Any]:
    fields = {"done": done, "total": 420, "unit": "steps", "rate": 2.0, "seconds_left": 65.2}
    return event("sft", "progress", at, **fields, **figures)


def play(home: Path, *steps: list[Any]) -> tuple[int, Path, str]:
    """Run the fake child under the supervisor; return exit code, folder and console text."""
    folder = new_run(home, "tiny", {"recipe": {"name": "tiny"}, "play": steps}, STAGES)
    console = Console(file=io.StringIO(), width=100)
    code = supervise(folder, STAGES, [*CHILD, str(folder)], console)
    assert isinstance(console.file, io.StringIO)
    return code, folder, console.file.getvalue()


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- how it ends


def test_the_report_is_the_last_line_after_the_accuracies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, folder, shown = play(
        tmp_path,
        started("download"),
        ["event", "download", "finished", DONE],
        ["write", "report.html", "<html>"],
        ["write", "report.json", json.dumps(REPORT)],
    )
    assert code == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "report.html")
    assert (folder / "report.html").is_absolute()
    lines = [line.split() for line in shown.splitlines()]
    assert ["base", "50.0", "%", "41.0", "–", "59.0"] in lines
    assert ["sft", "81.2", "%", "70.0", "–", "90.0"] in lines
    assert read_run(folder).state == "done"


def test_a_run_that_ends_before_the_evaluation_has_no_report_to_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, folder, _ = play(tmp_path, started("download"), ["event", "download", "finished", DONE])
    assert code == 0
    assert f"log: {folder / 'log.txt'}" in capsys.readouterr().out


@pytest.mark.parametrize("code", [1, 2, 75])
def test_a_failed_stage_says_its_error_once_and_gives_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    got, folder, shown = play(
        tmp_path,
        started("sft"),
        ["event", "sft", "failed", {"message": "clip7.mp4: truncated", "exit_code": code}],
        ["print", "Traceback: a screenful"],
        ["exit", code],
    )
    said = capsys.readouterr().err
    assert got == code
    assert said == f"omnistage: error: sft: clip7.mp4: truncated\nlog: {folder / 'log.txt'}\n"
    assert "truncated" not in shown
    assert (folder / "log.txt").read_text() == "Traceback: a screenful\n"
    run = read_run(folder)
    assert (run.state, run.exit_code) == ("failed", code)
    assert [s.state for s in run.stages] == ["waiting", "failed", "waiting"]


def test_a_failure_that_belongs_to_no_stage_is_said_and_is_no_row_of_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = ["event", "run", "failed", {"message": "no folder /data", "exit_code": 2}]
    code, folder, shown_live = play(tmp_path, failed, ["exit", 2])
    assert (code, shown_live) == (2, "")
    assert capsys.readouterr().err.startswith("omnistage: error: no folder /data\n")
    shown = read_run(folder).to_json()
    assert shown["error"] == "no folder /data"
    assert [s["stage"] for s in shown["stages"]] == STAGES


def test_a_child_that_fails_without_a_word_is_told_by_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, _ = play(tmp_path, ["print", "ModuleNotFoundError: no kfp"], ["exit", 9])
    said = capsys.readouterr().err
    assert code == 1
    assert "the run failed with exit code 9" in said
    assert "ModuleNotFoundError: no kfp" in said


def test_what_a_child_leaves_behind_is_ended_with_the_run(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code, _, _ = play(tmp_path / "home", ["orphan", str(pid_file)])
    assert code == 0
    assert not alive(int(pid_file.read_text()))


def start_in_background(home: Path, *steps: list[Any]) -> tuple[subprocess.Popen[str], Path]:
    """Start the supervisor in a process of its own, to be killed."""
    folder = new_run(home, "tiny", {"recipe": {"name": "tiny"}, "play": steps}, STAGES)
    program = (
        # A test run in the background of a script has SIGINT ignored, and its children with it.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys; from pathlib import Path; from rich.console import Console;"
        "from omnistage.runs.supervise import supervise;"
        f"sys.exit(supervise(Path({str(folder)!r}), {STAGES!r}, {[*CHILD, str(folder)]!r},"
        " Console()))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return process, folder


def test_kill_9_of_the_parent_ends_everything_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    process, folder = start_in_background(
        tmp_path / "home",
        ["ignore SIGTERM"],
        started("sft"),
        ["orphan", str(pid_file)],
        ["sleep", 600],
    )
    with process:
        assert wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
        orphan = int(pid_file.read_text())
        assert alive(orphan)
        assert read_run(folder).state == "running"
        process.kill()
    assert wait_for(lambda: not alive(orphan))
    assert wait_for(lambda: read_run(folder).state == "killed")
    assert [s.state for s in read_run(folder).stages] == ["waiting", "stopped", "waiting"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_run_and_says_how_to_go_on(tmp_path: Path, number: int) -> None:
    pid_file = tmp_path / "pid"
    process, folder = start_in_background(
        tmp_path / "home", started("sft"), ["orphan", str(pid_file)], ["sleep", 600]
    )
    assert process.stdout
    with process:
        assert wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
        assert "sft: started" in process.stdout.readline()
        os.kill(process.pid, number)
        try:
            shown, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "stopped in sft; run the same command again to go on from there" in shown
    assert said == f"log: {folder / 'log.txt'}\n"
    assert not alive(int(pid_file.read_text()))
    assert read_run(folder).state == "stopped"


# --- what is shown


def plain(*events: dict[str, Any]) -> list[str]:
    console = Console(file=io.StringIO(), width=100)
    with PlainLines(STAGES, console) as view:
        for one in events:
            view.take(one)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_log_gets_a_line_for_each_event_and_progress_every_ten_seconds() -> None:
    assert plain(
        event("download", "started", key="abc"),
        event("download", "finished", key="abc", cached=True, seconds=0.1, uri="file:///x"),
        event("sft", "started", 1000.0, key="def"),
        progress(1, 1005.0, loss=2.5),
        progress(20, 1011.0, loss=0.3125),
        progress(30, 1015.0, loss=0.3),
        progress(40, 1022.0, reward=0.5),
        event("sft", "warning", text="the loss [of it] is odd"),
        event("sft", "message", text="done in 1:05: 3 files, 2.1 MB"),
        event("sft", "finished", key="def", cached=False, seconds=65.0, uri="file:///y"),
    ) == [
        "download: started, key abc",
        "download: cached, not run again",
        "sft: started, key def",
        "sft: 20/420 steps, loss 0.3125, 1:05 left",
        "sft: 40/420 steps, reward 0.5, 1:05 left",
        "sft: warning: the loss [of it] is odd",
        "sft: done in 1:05: 3 files, 2.1 MB",
    ]


def screen(view: LiveTable) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(view._draw())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_live_table_shows_states_keys_times_and_the_progress_of_the_stage_at_work() -> None:
    view = LiveTable(STAGES, Console(file=io.StringIO(), force_terminal=True))
    assert screen(view).splitlines()[-1].strip() == "starting"
    view.take(event("download", "started", key="0123456789abcdef"))
    view.take(event("download", "finished", **DONE))
    view.take(event("sft", "started", time.time() - 5, key="fedcba9876543210"))
    view.take(event("sft", "message", text="loading the model"))
    assert screen(view).splitlines()[-1].strip() == "sft: loading the model"
    view.take(progress(120, time.time(), loss=0.31))
    rows = [line.split() for line in screen(view).splitlines()]
    assert ["download", "done", "0123456789ab", "1:05"] in rows
    assert rows[2][:3] == ["sft", "running", "fedcba987654"]
    assert ["eval", "waiting"] in rows
    assert screen(view).splitlines()[-1].strip() == "sft: 120/420 steps, loss 0.31, 1:05 left"


def test_in_a_terminal_warnings_stay_above_the_table() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveTable(STAGES, console) as view:
        view.take(event("sft", "warning", text="file [x] is damaged; making it again"))
    assert isinstance(console.file, io.StringIO)
    assert "file [x] is damaged; making it again" in console.file.getvalue()


# --- reading events


def test_events_are_read_as_they_come_and_a_half_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert reader.read() == []
    path.write_bytes(b'{"time":1,"stage":"a","event":"message","text":"x"}\n{"time":2,"sta')
    assert [e["text"] for e in reader.read()] == ["x"]
    assert reader.read() == []
    with path.open("ab") as f:
        f.write(b'ge":"a","event":"message","text":"y"}\n')
    assert [e["text"] for e in reader.read()] == ["y"]


def test_a_damaged_line_becomes_a_warning_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        b'{"time":1,"st{"time":2}\n[1]\n{"time":3,"stage":"a","event":"message","text":"z"}\n'
    )
    first, second, third = EventReader(path).read()
    assert first["event"] == second["event"] == "warning"
    assert first["text"] == f"{path}:1: a damaged line was passed over"
    assert third["text"] == "z"
