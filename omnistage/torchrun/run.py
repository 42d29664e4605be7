"""Run a job on this machine: torchrun in a subprocess."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil

from omnistage.errors import (
    InputError,
    KilledError,
    LostPeerError,
    StageFailedError,
    TransientError,
)
from omnistage.files import write_atomic
from omnistage.torchrun.job import TorchrunJob, diagnose, killed, lost_peer, passing
from omnistage.torchrun.job_log import JobLog
from omnistage.torchrun.warm import Fork, fork
from omnistage.torchrun.world import without_world

_PDEATHSIG = 1
_POLL_SECONDS = 0.5
_GRACE_SECONDS = 10
_MEET_SECONDS = 7200


@dataclass(frozen=True)
class Request:
    """Exactly what is started."""

    argv: Sequence[str]
    env: dict[str, str]
    """Added to this process's environment."""


def render(job: TorchrunJob) -> Request:
    """Return the command that a job runs as: plain Python for one process, torchrun for more.

    Every node of a job on several renders its own command, with its rank.
    """
    env = dict(job.env)
    count = f"--nproc_per_node={job.nproc_per_node}"
    world = job.world
    torchrun = (sys.executable, "-m", "torch.distributed.run")
    if world.nodes > 1:
        gang = (
            f"--nnodes={world.nodes}",
            f"--node_rank={world.node_rank}",
            f"--master_addr={world.address}",
            f"--master_port={world.port}",
            # Nodes wait for one another while each fetches its inputs and node 0 runs preflight.
            f"--rdzv_conf=timeout={_MEET_SECONDS}",
        )
        return Request((*torchrun, *gang, count, *job.program), env)
    if job.nproc_per_node == 1:
        return Request((sys.executable, *job.program), env)
    # --standalone picks a free port, so that two runs on one machine do not meet.
    return Request((*torchrun, "--standalone", count, *job.program), env)


def run(job: TorchrunJob, follow: Callable[[], str | None]) -> float:
    """Run a job to its end and return its seconds.

    The job gets a process group of its own. It dies with this process, and what an earlier,
    killed run of the same job left behind is ended first, so that never two of them write to
    the same checkpoints.

    Args:
        job: What to run.
        follow: Called twice a second; when it returns a text, the job is stopped for that reason.

    Raises:
        StageFailedError: If the job fails, ``follow`` stopped it, or it prints nothing for
            ``job.silence`` seconds.
        KilledError: If one of its processes was killed from outside.
        InputError: If the job ends with exit code 2.
        TransientError: If it ends with exit code 75, or by a fault that a shared file system gets
            over.
        LostPeerError: If another node went away.
    """
    leader = job.log.with_suffix(".pid")
    _end_leftover(leader)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    start = job.log.stat().st_size if job.log.exists() else 0
    job.log.touch()
    process = _start(job)
    assert process.stdout is not None  # a pipe
    log = JobLog(process.stdout, job.log)
    write_atomic(leader, orjson.dumps({"pid": process.pid, "start": _start_time(process.pid)}))
    try:
        _wait(job, process, follow, start)
    finally:
        _end_group(process.pid)
        process.wait()
        log.close()
        leader.unlink(missing_ok=True)
    if process.returncode:
        _raise(job, process.returncode, start)
    return time.monotonic() - began


def _start(job: TorchrunJob) -> subprocess.Popen[bytes] | Fork:
    request = render(job)
    env = {**without_world(os.environ), **request.env}
    if job.nproc_per_node == 1 and job.world.nodes == 1:
        forked = fork(job.program, env)
        if forked:
            return forked
    return subprocess.Popen(
        request.argv,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


def _wait(
    job: TorchrunJob,
    process: subprocess.Popen[bytes] | Fork,
    follow: Callable[[], str | None],
    start: int,
) -> None:
    """Wait for a job's end, unless ``follow`` or its silence ends it before.

    Args:
        job: What runs.
        process: Its process.
        follow: See :func:`run`.
        start: Size of the log when the job began.

    Raises:
        StageFailedError: If it has to be stopped.
    """
    size, spoke = start, time.monotonic()
    while process.poll() is None:
        reason = follow()
        now = time.monotonic()
        if (grown := job.log.stat().st_size) != size:
            size, spoke = grown, now
        if reason is None and job.silence is not None and now - spoke > job.silence:
            reason = (
                f"{job.name} has printed nothing for {job.silence:.0f} seconds and was ended; "
                f"its log is {job.log}, and ends:\n{diagnose(_text(job.log, start))}"
            )
        if reason:
            raise StageFailedError(reason)
        time.sleep(_POLL_SECONDS)
    reason = follow() if process.returncode == 0 else None
    if reason:
        raise StageFailedError(reason)


def _text(log: Path, start: int) -> str:
    with log.open("rb") as f:
        f.seek(start)
        return f.read().decode(errors="replace")


def _raise(job: TorchrunJob, code: int, start: int) -> None:
    log = _text(job.log, start)
    text = diagnose(log)
    if code in (2, 75):
        raise (InputError if code == 2 else TransientError)(text)
    if passing(text):
        raise TransientError(
            f"{job.name} ended with {code}; its log is {job.log}, and ends:\n{text}"
        )
    if job.world.nodes > 1 and lost_peer(text):
        raise LostPeerError(f"{job.name} lost another node of its job:\n{text}")
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    advice = ""
    if code == -signal.SIGKILL:
        advice = "\nThe kernel kills a process so when memory runs out: see `dmesg`."
    error = KilledError if code in (-signal.SIGKILL, -signal.SIGTERM) or killed(log) else None
    raise (error or StageFailedError)(
        f"{job.name} {how}; its log is {job.log}, and ends:\n{text}{advice}"
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PDEATHSIG, signal.SIGKILL)


def _start_time(pid: int) -> str | None:
    """Return when a process began, in clock ticks since boot, or None when there is none.

    psutil tells it by the wall clock, which may be set in between.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()[19]


def _end_leftover(leader: Path) -> None:
    if not leader.exists():
        return
    earlier = orjson.loads(leader.read_bytes())
    members = _group(earlier["pid"])
    # The number may have been given to another process since: then the leader's start differs.
    alive = _start_time(earlier["pid"])
    if members and alive in (None, earlier["start"]):
        _end_group(earlier["pid"])
    leader.unlink()


def _group(pgid: int) -> list[int]:
    """Return the living processes of a group."""
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(pid) == pgid and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def _end_group(pgid: int) -> None:
    """End a process group: TERM, then KILL for what is left after ten seconds."""
    for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
        if not _group(pgid):
            return
        try:
            os.killpg(pgid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while _group(pgid) and time.monotonic() < deadline:
            time.sleep(0.05)
