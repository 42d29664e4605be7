"""A job on a disk that fills up, on a machine that sleeps, and whose log is redacted."""

import subprocess
import sys
from pathlib import Path

import pytest

from omnistage.errors import StageFailedError
from omnistage.torchrun import run as local
from omnistage.torchrun.job import TorchrunJob
from omnistage.torchrun.job_log import JobLog


def job(tmp_path: Path, code: str, silence: float | None = None) -> TorchrunJob:
    script = tmp_path / "program.py"
    script.write_text(code)
    return TorchrunJob("program", (str(script),), tmp_path / "program.log", {}, silence=silence)


def logged(tmp_path: Path, code: str) -> str:
    """Return the log of a program."""
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    log = JobLog(process.stdout, tmp_path / "log")
    process.wait()
    log.close()
    return (tmp_path / "log").read_bytes().decode(errors="surrogateescape")


def test_what_is_printed_is_in_the_log_byte_for_byte(tmp_path: Path) -> None:
    code = "import sys; sys.stdout.buffer.write(b'one\\r 50%\\r100%\\n\\xff\\n' * 9000 + b'end')"
    wanted = b"one\r 50%\r100%\n\xff\n" * 9000 + b"end"
    assert logged(tmp_path, code).encode(errors="surrogateescape") == wanted


def test_a_secret_that_is_written_in_pieces_is_not_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    code = "import os\nfor piece in (b'token hf_ab', b'cdef', b'gh\\n'): os.write(1, piece)"
    assert logged(tmp_path, code) == "token ***\n"


def test_a_log_that_cannot_be_written_does_not_hold_the_job_up(tmp_path: Path) -> None:
    """Given a full disk, then a job that prints more than a pipe holds still comes to its end."""
    (tmp_path / "program.log").symlink_to("/dev/full")
    code = f"print('x' * 100_000, flush=True)\nopen({str(tmp_path / 'ended')!r}, 'w')"
    local.run(job(tmp_path, code), lambda: None)
    assert (tmp_path / "ended").exists()


def test_a_training_that_fills_the_disk_says_so_and_what_to_do(tmp_path: Path) -> None:
    code = "with open('/dev/full', 'w') as f:\n    f.write('checkpoint')\n"
    with pytest.raises(StageFailedError, match="The disk is full") as failed:
        local.run(job(tmp_path, code), lambda: None)
    assert "goes on from the last whole checkpoint" in str(failed.value)


def test_the_clock_of_the_wall_ends_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a machine that sleeps, or whose clock is set: only the time that it was awake counts.

    CLOCK_MONOTONIC, which is asked, stands still while Linux is suspended.
    """
    asked: list[float] = []

    class Jumping:
        """The module time, whose wall clock is a week later each time it is asked."""

        monotonic, sleep = staticmethod(local.time.monotonic), staticmethod(local.time.sleep)

        @staticmethod
        def time() -> float:
            asked.append(7 * 86400.0 * len(asked))
            return asked[-1]

    monkeypatch.setattr(local, "time", Jumping)
    seconds = local.run(job(tmp_path, "import time; time.sleep(1)", silence=60), lambda: None)
    assert 0 < seconds < 60
