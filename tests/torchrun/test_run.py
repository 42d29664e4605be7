"""The local launcher: what is started, how it ends, and that nothing outlives it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from omnistage.errors import InputError, StageFailedError, TransientError
from omnistage.torchrun import run as local
from omnistage.torchrun.job import TorchrunJob, diagnose, killed
from omnistage.torchrun.warm import forking


def job(tmp_path: Path, code: str, processes: int = 1, **env: str) -> TorchrunJob:
    script = tmp_path / "program.py"
    script.write_text(code)
    return TorchrunJob(
        "program", (str(script), "--x", "1"), tmp_path / "program.log", env, processes
    )


@pytest.fixture(params=["started", "forked"])
def either_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Jobs that are processes of their own, and jobs that are forked."""
    with forking(["json"], {}) if request.param == "forked" else nullcontext():
        yield


def nothing() -> None:
    return None


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until_dead(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def test_one_process_is_plain_python(tmp_path: Path) -> None:
    request = local.render(job(tmp_path, "", FPS="1"))
    assert request.argv == (sys.executable, str(tmp_path / "program.py"), "--x", "1")
    assert request.env == {"FPS": "1"}


def test_more_processes_are_torchrun_on_a_port_of_its_own(tmp_path: Path) -> None:
    request = local.render(job(tmp_path, "", 4))
    assert request.argv == (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=4",
        str(tmp_path / "program.py"),
        "--x",
        "1",
    )


@pytest.mark.usefixtures("either_way")
def test_a_program_that_ends_well(tmp_path: Path) -> None:
    seconds = local.run(job(tmp_path, "import os; print(os.environ['FPS'])", FPS="7"), nothing)
    assert (tmp_path / "program.log").read_text() == "7\n"
    assert seconds > 0
    assert not (tmp_path / "program.pid").exists()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("code", "error"), [(2, InputError), (75, TransientError), (1, StageFailedError)]
)
def test_the_exit_code_decides_the_error(tmp_path: Path, code: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="because of this"):
        local.run(job(tmp_path, f"print('because of this'); raise SystemExit({code})"), nothing)


@pytest.mark.usefixtures("either_way")
def test_a_killed_program_is_said_to_be_killed(tmp_path: Path) -> None:
    with pytest.raises(StageFailedError, match="killed by SIGKILL"):
        local.run(job(tmp_path, "import os; os.kill(os.getpid(), 9)"), nothing)


@pytest.mark.usefixtures("either_way")
def test_a_reason_to_stop_stops_the_whole_group(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )

    def follow() -> str | None:
        path = tmp_path / "child"
        return "the reward is constant" if path.exists() and path.read_text() else None

    with pytest.raises(StageFailedError, match="the reward is constant"):
        local.run(job(tmp_path, code), follow)
    assert wait_until_dead(int((tmp_path / "child").read_text()))


def test_what_a_killed_launcher_left_is_ended_by_the_next(tmp_path: Path) -> None:
    """Given a launcher that is killed with -9, then neither its job nor that job's child lives
    on beside the next attempt."""
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    started = job(tmp_path, program)
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from pathlib import Path; from omnistage.torchrun import run as local\n"
            "from omnistage.torchrun.job import TorchrunJob\n"
            f"local.run(TorchrunJob('p', ({started.program[0]!r},), Path({str(started.log)!r})), "
            "lambda: None)",
        ]
    )
    child = tmp_path / "child"
    deadline = time.monotonic() + 60
    while not (child.exists() and child.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    leader = json.loads((tmp_path / "program.pid").read_text())["pid"]
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    assert wait_until_dead(leader)  # it dies with its parent
    assert alive(int(child.read_text()))  # its own child does not
    local.run(job(tmp_path, "pass"), nothing)
    assert wait_until_dead(int(child.read_text()))


def test_a_process_that_only_has_the_old_number_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        (tmp_path / "program.pid").write_text(json.dumps({"pid": other.pid, "start": "1"}))
        local.run(job(tmp_path, "pass"), nothing)
        assert alive(other.pid)
    finally:
        other.kill()
        other.wait()


def test_two_processes_meet(tmp_path: Path) -> None:
    code = (
        "import torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "dist.barrier()\n"
        "name = f'rank {dist.get_rank()} of {dist.get_world_size()}'\n"
        f"open({str(tmp_path)!r} + '/' + name, 'w').close()\n"
        "dist.destroy_process_group()\n"
    )
    local.run(job(tmp_path, code, 2), nothing)
    assert sorted(p.name for p in tmp_path.glob("rank*")) == ["rank 0 of 2", "rank 1 of 2"]


LOG = """step 1
Traceback (most recent call last):
  File "grpo.py", line 3, in <module>
    train()
ValueError: batch_size does not divide
E0101 torch.distributed.elastic.multiprocessing.api: failed (exitcode: 1)
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
====
program.py FAILED
"""


def test_the_diagnosis_is_the_error_not_torchruns_summary() -> None:
    text = diagnose(LOG)
    assert text.endswith("ValueError: batch_size does not divide")
    assert "ChildFailedError" not in text


def test_the_diagnosis_is_not_the_traceback_of_torchrun_itself() -> None:
    begin = "Traceback (most recent call last):"
    child = f'{begin}\n  File "x.py"\nValueError: no such row\n'
    agent = (
        f"{begin}\n"
        '  File "lib/torch/distributed/elastic/multiprocessing/errors/__init__.py", line 367\n'
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:\n"
    )
    said = "E1130 9 torch/distributed/elastic/multiprocessing/api.py:984] failed (exitcode: 1)\n"
    for log in (child + said + agent, child + agent):
        assert "no such row" in diagnose(log)
        assert "ChildFailedError" not in diagnose(log)


def test_the_diagnosis_is_that_of_a_rank_whose_lines_have_its_name() -> None:
    rank = ["Traceback (most recent call last):", '  File "x.py"', "ValueError: bad row", "end"]
    log = "\n".join([*(f"[rank1]: {line}" for line in rank), *["Saving model"] * 30])
    assert "bad row" in diagnose(log)


@pytest.mark.parametrize(("first", "other", "outside"), [(1, -15, False), (-9, -15, True)])
def test_of_several_processes_the_first_that_ended_tells_whether_it_was_killed(
    first: int, other: int, outside: bool
) -> None:
    log = (
        f"Failures:\n[1]:\n  exitcode  : {other} (pid: 8)\n"
        f"Root Cause (first observed failure):\n[0]:\n  exitcode  : {first} (pid: 7)\n"
    )
    assert killed(log) is outside
    assert killed(f"  exitcode  : {first} (pid: 7)\n") is outside


def test_out_of_memory_comes_with_advice() -> None:
    text = diagnose("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    assert "per_device_batch_size" in text


def test_a_log_without_an_error_gives_its_last_lines() -> None:
    assert diagnose(os.linesep.join(map(str, range(100)))).splitlines()[-1] == "99"


def test_a_job_that_prints_nothing_is_ended(tmp_path: Path) -> None:
    quiet = job(tmp_path, "import time; time.sleep(600)")
    with pytest.raises(StageFailedError, match="printed nothing for 1 seconds and was ended"):
        local.run(dataclasses.replace(quiet, silence=1.0), nothing)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("OSError(116, 'Stale file handle', '/data/clip.mp4')", TransientError),
        ("OSError(5, 'Input/output error')", TransientError),
        ("type('OSError', (OSError,), {'__module__': 'av.error'})(5, 'a broken clip')", None),
        ("ValueError('OSError: [Errno 5] is in a text')", None),
    ],
)
def test_a_fault_of_a_shared_disk_is_transient_for_a_job_too(
    tmp_path: Path, error: str, kind: type[Exception] | None
) -> None:
    with pytest.raises(kind or StageFailedError, match="its log is"):
        local.run(job(tmp_path, f"raise {error}"), nothing)
