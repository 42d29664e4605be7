"""What is launched: one torchrun job."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from omnistage.errors import PASSING
from omnistage.torchrun.world import SINGLE_NODE, World

SILENCE_SECONDS = 3600.0
"""Silence that ends a training, the same on one machine as of a cluster's job."""


@dataclass(frozen=True)
class TorchrunJob:
    """A program that runs as one process a GPU, or as one process on a machine without."""

    name: str
    program: tuple[str, ...]
    """What Python is given: a file or ``-m module``, then its arguments."""
    log: Path
    """File that the processes' output is appended to."""
    env: dict[str, str] = field(default_factory=dict)
    """Added to the environment."""
    nproc_per_node: int = 1
    world: World = SINGLE_NODE
    """The nodes that run it together."""
    silence: float | None = None
    """Seconds without a byte of output after which it counts as hanging; None for ever."""


def gpu_count() -> int:
    """Return the number of NVIDIA GPUs of this machine, from their device files (no torch)."""
    return sum(bool(re.fullmatch(r"nvidia\d+", p.name)) for p in Path("/dev").glob("nvidia*"))


_LOST_PEER = re.compile(
    r"Connection (closed by peer|reset by peer|refused)|Broken pipe|ncclRemoteError"
    r"|Watchdog caught collective operation timeout|NCCL.*(timeout|timed out)|Gloo.*imed out"
    r"|Timed out waiting \d+ms for (recv|send)|rendezvous.*(imeout|imed out)|DistNetworkError"
    r"|Socket Timeout|client socket has timed out",
    re.IGNORECASE,
)


def lost_peer(text: str) -> bool:
    """Return whether an error says that another process of a distributed job does not answer.

    That is NCCL's or gloo's time-out or lost connection: a transient error on this side.
    """
    return bool(_LOST_PEER.search(text))


_PASSING = re.compile(
    r"^(\[rank\d+\]: )?(omnistage\.errors\.TransientError: "
    rf"|(OSError|TimeoutError): \[Errno ({'|'.join(map(str, PASSING))})\] )",
    re.MULTILINE,
)


def passing(text: str) -> bool:
    """Return whether a program's last error is one of a shared file system that gets over it.

    ffmpeg's own ``av.error.OSError`` says "Input/output error" of broken media too and does not
    count.
    """
    return bool(_PASSING.search(text))


_KILLED = re.compile(r"Signal (9|15) \(SIG|exitcode *: *-(9|15)\b")


_ROOT_CAUSE = "Root Cause (first observed failure)"


def killed(log: str) -> bool:
    """Return whether torchrun says that one of its processes was killed from outside.

    torchrun itself ends the others when one fails: only the first that ended tells why.
    """
    return bool(_KILLED.search(log.rpartition(_ROOT_CAUSE)[2]))


_ELASTIC = re.compile(
    r"torch[./]distributed[./]elastic.*(failed|SIGTERM)|elastic/multiprocessing/errors/__init__\.py"
)
_RANK = r"(\[rank\d+\]: )?"
_TRACEBACK = re.compile(_RANK + r"Traceback \(most recent")
_ERROR = re.compile(_RANK + r"[\w.]*Error\b")


def diagnose(log: str) -> str:
    """Return the part of a failed job's log that says why: the last error and what led to it.

    torchrun's own summary of dead processes, which follows the real error, is cut off, and
    full memory and full disks get advice.
    """
    lines = [line.rstrip() for line in log.splitlines()]
    for number, line in enumerate(lines):
        if _ELASTIC.search(line):
            lines = lines[:number]
            break
    lines = [line for line in lines if line.strip()]
    starts = [n for n, line in enumerate(lines) if _TRACEBACK.match(line)]
    errors = [n for n, line in enumerate(lines) if _ERROR.match(line)]
    if errors and starts:
        end = errors[-1]
        begin = max([s for s in starts if s < end] or [end])
        shown = lines[max(begin, end - 12) : end + 6]
    else:
        shown = lines[-15:]
    text = "\n".join(line[:400] for line in shown)
    if re.search(r"out of memory|OutOfMemoryError|Cannot allocate memory", log):
        text += (
            "\nOut of memory. Lower per_device_batch_size (the global batch stays), max_length, "
            "max_pixels or video_max_pixels; turn gradient_checkpointing on; or raise zero_stage."
        )
    if re.search(r"No space left on device|Disk quota exceeded", log):
        text += (
            "\nThe disk is full. Free some space, or lower save_total_limit or raise save_steps; "
            "then run it again, which goes on from the last whole checkpoint."
        )
    return text
