"""A run whose terminal closes, whose disk fills up, or whose machine's clock jumps."""

import os
import pty
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from omnistage import events as events_module
from omnistage.events import Events
from omnistage.runs.folder import StageView, apply_event, new_run, read_run
from omnistage.runs.live import stage_table
from tests.runs.test_live import CHILD, STAGES, alive, wait_for


def test_a_run_whose_terminal_closes_is_stopped_and_says_so_in_its_folder(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    play = [["orphan", str(pid_file)], ["sleep", 600]]
    folder = new_run(tmp_path / "home", "tiny", {"recipe": {"name": "tiny"}, "play": play}, STAGES)
    program = (
        "import sys; from pathlib import Path; from rich.console import Console;"
        "from omnistage.runs.supervise import supervise;"
        f"supervise(Path({str(folder)!r}), {STAGES!r}, {[*CHILD, str(folder)]!r}, Console())"
    )
    child, terminal = pty.fork()
    if child == 0:  # the leader of a session that has the terminal, as a shell's command
        os.execv(sys.executable, [sys.executable, "-c", program])
    assert wait_for(lambda: pid_file.is_file() and bool(pid_file.read_text()), 60)
    os.close(terminal)
    os.waitpid(child, 0)
    run = read_run(folder)
    assert (run.state, run.exit_code) == ("stopped", 130)
    assert wait_for(lambda: not alive(int(pid_file.read_text())))


def test_a_full_disk_costs_the_progress_and_not_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "events.jsonl"
    full.symlink_to("/dev/full")
    events = Events("sft", full)
    for done in (1, 2, 3):
        events.emit("progress", done=done)
    events.message("still at work")
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"sft: warning: {full} cannot be written: No space left on device",
        "sft: still at work",
    ]


def test_a_week_of_progress_is_a_small_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(events_module.time, "monotonic", lambda: clock[0])
    events = Events("grpo", tmp_path / "events", echo=False)
    for second in range(0, 7 * 24 * 3600, 5):
        clock[0] = float(second)
        events.progress(second, 7 * 24 * 3600, loss=0.25, reward=0.5)
    assert (tmp_path / "events").stat().st_size < 20e6


def test_durations_are_never_negative_when_the_clock_jumps_back() -> None:
    stages = {"sft": StageView("sft")}
    now = time.time()
    ahead = {"stage": "sft", "event": "started", "key": "0" * 32, "time": now + 3600}
    apply_event(stages, ahead)
    console = Console(width=100)
    with console.capture() as shown:
        console.print(stage_table(list(stages.values())))
    assert "0:00" in shown.get()
    apply_event(stages, {"stage": "sft", "event": "failed", "message": "no", "time": now})
    assert stages["sft"].seconds == 0.0


def test_progress_does_not_look_at_the_clock_of_the_wall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = Events("sft", tmp_path / "events", echo=False)
    events.progress(1, 10)
    monkeypatch.setattr(events_module.time, "time", lambda: 0.0)  # back to 1970
    events.progress(10, 10)
    assert (tmp_path / "events").read_text().count('"seconds_left":-') == 0


def test_the_end_of_a_piece_of_work_is_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = Events("sft", tmp_path / "events")
    for done in (1, 10, 10, 10):
        events.progress(done, 10, "records")
    events.progress(10, 10, "steps")
    assert (tmp_path / "events").read_text().count('"done":10') == 2
    assert capsys.readouterr().err.count("10/10") == 2
