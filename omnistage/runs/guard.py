"""Runs a command so that nothing of it outlives the one who started it.

    python -m omnistage.runs.guard FILE COMMAND…

FILE is the number of an open file that becomes the command's standard input.

The guard's standard input is a pipe that the starter holds open and never writes to. The kernel
closes it whatever way the starter dies, ``kill -9`` included; the guard then kills the command and
everything it started. Training processes put themselves in sessions of their own, where a signal
to the group does not reach them; as their *subreaper* (``prctl(2)``, Linux) the guard inherits the
orphans among them and so finds them all. On SIGTERM it ends them politely first.

Exit code: the command's, or 128 plus the signal that killed it. Only the standard library is
imported: the guard starts with every run.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
GRACE = 10.0  # seconds between SIGTERM and SIGKILL: a trainer may be writing a checkpoint


def main(stdin: int, command: list[str]) -> int:
    """Run a command to its end, or to the end of whoever holds the other side of stdin.

    Args:
        stdin: Open file that becomes the command's standard input.
        command: The command line.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    if prctl:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _: asked.append(got))
    signal.signal(signal.SIGCHLD, lambda *_: None)

    def die_with_guard() -> None:
        if prctl:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    child = subprocess.Popen(
        command, stdin=stdin, start_new_session=True, preexec_fn=die_with_guard
    )
    code = None
    while code is None and not asked:
        ready, _, _ = select.select([0, wake], [], [])
        if 0 in ready and not os.read(0, 1):
            break
        if wake in ready:
            os.read(wake, 1024)
        code = child.poll()
    if asked:
        _end(child, signal.SIGTERM, GRACE)
    _end(child, signal.SIGKILL, GRACE)
    code = child.returncode if code is None else code
    if code is None:
        return 128 + signal.SIGKILL
    return code if code >= 0 else 128 - code


def _end(child: subprocess.Popen[bytes], number: int, seconds: float) -> None:
    """Signal all there is below the guard, and wait until nothing is left of it or time is up."""
    until = time.monotonic() + seconds
    told: set[int] = set()
    while time.monotonic() < until:
        child.poll()
        left = _descendants()
        if not left and child.returncode is not None:
            return
        for pid in left | ({child.pid} if child.returncode is None else set()):
            if number == signal.SIGKILL or pid not in told:
                told.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        time.sleep(0.02)
        _reap(child.pid)


def _descendants() -> set[int]:
    """Return the living processes below this one; none where there is no ``/proc``."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry.parent.name)] = int(parent)
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def _reap(keep: int) -> None:
    """Collect orphans that ended; the command itself is left to its ``Popen``."""
    for entry in Path(f"/proc/self/task/{os.getpid()}").glob("children"):
        for pid in map(int, entry.read_text().split()):
            if pid != keep:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
