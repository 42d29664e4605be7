"""Probe media in a process of its own, so that a decoder that crashes costs one medium.

Decoders are C code that reads bytes from anybody: a broken clip may end its process, run for ever
or ask for all memory. The process is started with the first medium, and again after a crash; its
side is :mod:`components.download.index.probe_child`.
"""

import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from omnistage.archives.media_names import MediaKind
from omnistage.errors import StageFailedError
from omnistage.workers.pool import WorkerEndedError, WorkerProcess

_SLOWEST = 200_000  # bytes of a medium that are decoded in a second at least
AHEAD = 4  # media that may be begun and not yet ended
_IN_MEMORY = 16 << 20  # bytes of a copied medium that are not put on the disk, which takes longer


class ProbeProcess:
    """A process that reads media, while its caller goes on to the next ones.

    What is said of a medium does not depend on those before it: where a process that has probed
    others crashes, the medium gets a new one.

    Args:
        seconds: Longest time a medium's header may take.
        decode: Whether all of a medium is decoded; its size then adds to the time that it may take.
    """

    def __init__(self, seconds: float, decode: bool = False) -> None:
        self.seconds = seconds
        self._decode = decode
        self._small = [_memory_file() for _ in range(AHEAD)]
        self._large = _disk_file()
        self._copy = self._large
        self._copies = 0
        self._begun: deque[dict[str, Any]] = deque()
        self._process: WorkerProcess | None = None
        self._answers = 0
        """Of this process; with none, what it crashes at is its first medium."""

    @property
    def begun(self) -> int:
        """Media that were begun and not yet ended."""
        return len(self._begun)

    def begin(self, kind: MediaKind, parts: Sequence[Path], start: int, size: int) -> None:
        """Have a medium read.

        Args:
            kind: What the name says it is.
            parts: Files that are read as one.
            start: The medium's first byte in them.
            size: Its bytes.
        """
        task = {
            "kind": kind,
            "parts": [str(part) for part in parts],
            "start": start,
            "size": size,
            "decode": self._decode,
            "seconds": self.seconds + (size / _SLOWEST if self._decode else 0),
        }
        self._begun.append(task)
        if self._process is None:
            self._start()
        else:
            self._process.send(task)

    def end(self) -> dict[str, Any]:
        """Return what is known of the medium that was begun first.

        Returns:
            See :func:`components.download.index.probe.probe`; an ``error`` also for a crash.

        Raises:
            StageFailedError: If the process cannot be started at all.
        """
        while True:
            assert self._process is not None  # since the medium was begun
            try:
                found = self._process.receive()["media"]
                self._answers += 1
                self._begun.popleft()
                return found
            except WorkerEndedError as e:
                final = not self._answers or e.code == -signal.SIGALRM
                self._stop()
                task = self._begun.popleft() if final else None
                if self._begun:
                    self._start()
                if task:
                    return {"error": _verdict(e.code, task["seconds"])}

    def probe(
        self, kind: MediaKind, parts: Sequence[Path], start: int, size: int
    ) -> dict[str, Any]:
        """Begin a medium and end it: for one at a time."""
        self.begin(kind, parts, start, size)
        return self.end()

    def new_copy(self, size: int) -> BinaryIO:
        """Return a file, to be written from its start, for a medium that lies in no file.

        Args:
            size: Its bytes. More than :func:`room_for` it media must not be begun.
        """
        self._copies += 1
        small = size <= _IN_MEMORY
        self._copy = self._small[self._copies % AHEAD] if small else self._large
        self._copy.seek(0)
        if not small:  # what is in memory is kept for the next one: to get it anew takes longer
            self._copy.truncate()
        return self._copy

    def begin_copy(self, kind: MediaKind) -> None:
        """Have the medium read that was written to the last :meth:`new_copy`."""
        self._copy.flush()
        part = Path(f"/dev/fd/{self._copy.fileno()}")
        self.begin(kind, [part], 0, self._copy.tell())

    def clear(self) -> None:
        """Forget what was begun and not ended."""
        if self._begun:
            self._begun.clear()
            self._stop()

    def close(self) -> None:
        """End the process."""
        self._stop()
        for file in (*self._small, self._large):
            file.close()

    def _start(self) -> None:
        """Start the process and give it all that was begun."""
        files = [file.fileno() for file in (*self._small, self._large)]
        self._process = WorkerProcess("components.download.index.probe_child", files)
        self._answers = 0
        try:
            self._process.ask({})
        except WorkerEndedError as e:  # before it saw a medium: the machine's fault
            self._stop()
            raise StageFailedError(f"the media probe could not be started: {e}") from e
        for task in self._begun:
            self._process.send(task)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.close()
            self._process = None


def _verdict(code: int, seconds: float) -> str:
    if code == -signal.SIGALRM:
        return f"the decoder did not end within {seconds:.3g} s"
    return f"crashed the decoder: {f'signal {-code}' if code < 0 else f'exit code {code}'}"


def room_for(size: int) -> int:
    """Return how many media may be begun when a copy of so many bytes is asked for."""
    return AHEAD - 1 if size <= _IN_MEMORY else 0


def _memory_file() -> BinaryIO:
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("medium"), "w+b")
    return _disk_file()


def _disk_file() -> BinaryIO:
    return cast(BinaryIO, tempfile.TemporaryFile())
