"""Jobs that are forked from a process that has imported everything already."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnistage.errors import StageFailedError
from omnistage.torchrun import run as local
from omnistage.torchrun.job import TorchrunJob
from omnistage.torchrun.warm import VARIABLE, fork, forking
from tests.torchrun.test_run import alive, job, nothing, wait_until_dead

TELL = """
import os, sys
print("wave" in sys.modules, sys.argv[1:], os.environ.get("FPS"), os.getcwd(), __name__)
"""


def test_a_fork_has_the_modules_and_its_own_arguments_and_environment(tmp_path: Path) -> None:
    with forking(["wave"], {"OMP_NUM_THREADS": "1"}):
        for fps in ("1", "2"):
            local.run(job(tmp_path, TELL, FPS=fps, OMP_NUM_THREADS="1"), nothing)
    said = (tmp_path / "program.log").read_text().splitlines()
    assert said == [f"True ['--x', '1'] {n} {Path.cwd()} __main__" for n in (1, 2)]


def test_a_job_in_another_environment_is_a_process_of_its_own(tmp_path: Path) -> None:
    with forking(["wave"], {"PYTHONHASHSEED": "0"}):
        local.run(job(tmp_path, TELL, PYTHONHASHSEED="1"), nothing)
    assert (tmp_path / "program.log").read_text().startswith("False")


def test_a_module_can_be_run(tmp_path: Path) -> None:
    with forking(["wave"], {}):
        program = ("-m", "base64", "-t")
        local.run(TorchrunJob("base64", program, tmp_path / "log"), nothing)
    assert "Aladdin:open sesame" in (tmp_path / "log").read_text()


def test_an_error_has_its_traceback_in_the_log(tmp_path: Path) -> None:
    with forking([], {}), pytest.raises(StageFailedError, match="no such row"):
        local.run(job(tmp_path, "raise ValueError('no such row')"), nothing)


def test_several_run_at_once(tmp_path: Path) -> None:
    wait = f"import time\nwhile not __import__('os').path.exists({str(tmp_path / 'go')!r}): "
    slow = job(tmp_path, wait + "time.sleep(0.01)")
    with forking([], {}):
        first = fork(slow.program, dict(os.environ))
        assert first is not None
        (tmp_path / "other").mkdir()
        local.run(job(tmp_path / "other", "print('second')"), nothing)
        assert first.poll() is None
        (tmp_path / "go").touch()
        assert first.wait() == 0


def test_a_fork_ends_with_the_one_who_asked_for_it(tmp_path: Path) -> None:
    """Given that it is killed with -9; and what the fork has started ends too."""
    started = job(
        tmp_path,
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"part = {str(tmp_path / 'part')!r}\n"
        "open(part, 'w').write(f'{os.getpid()} {child.pid}')\n"
        f"os.rename(part, {str(tmp_path / 'pids')!r})\n"
        "time.sleep(600)\n",
    )
    with forking([], {}):
        asker = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import os, time; from omnistage.torchrun.warm import fork\n"
                f"kept = fork(({started.program[0]!r},), dict(os.environ)); time.sleep(600)",
            ]
        )
        pids = tmp_path / "pids"
        while not pids.exists():
            assert asker.poll() is None
            time.sleep(0.05)
        both = [int(pid) for pid in pids.read_text().split()]
        assert all(map(alive, both))
        asker.send_signal(signal.SIGKILL)
        asker.wait()
        assert all(map(wait_until_dead, both))


def test_when_the_forking_process_is_gone_jobs_are_started(tmp_path: Path) -> None:
    with forking([], {}):
        gone = os.environ[VARIABLE]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, gone)
        local.run(job(tmp_path, "print('here')"), nothing)
    assert (tmp_path / "program.log").read_text() == "here\n"


def test_a_fork_whose_server_is_killed_counts_as_killed(tmp_path: Path) -> None:
    with forking([], {}):
        started = fork(job(tmp_path, "import time; time.sleep(600)").program, dict(os.environ))
        assert started is not None
        parent = int(Path(f"/proc/{started.pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        assert started.wait() == -signal.SIGKILL
        assert wait_until_dead(started.pid)
