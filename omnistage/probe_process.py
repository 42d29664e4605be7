"""Probe media in a process of its own, so that a decoder that crashes costs one medium.

Decoders are C code that reads bytes from anybody: a broken clip may end its process, run for ever
or ask for all memory. The process is started with the first medium, and again after a crash; its
side is :mod:`omnistage.probe_child`.
"""

import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from omnistage.errors import StageFailedError
from omnistage.media_probe import MediaKind
from omnistage.worker_pool import WorkerEndedError, WorkerProcess


class ProbeProcess:
    """A process that reads the headers of media.

    Args:
        seconds: Longest time a medium may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._copy = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self._process: WorkerProcess | None = None

    def probe(
        self, kind: MediaKind, parts: Sequence[Path], start: int, size: int
    ) -> dict[str, Any]:
        """Read a medium's header: see :func:`omnistage.media_probe.probe`.

        What is said of a medium does not depend on what was probed before it: where a process
        that has already probed others crashes, the medium gets a new one.

        Args:
            kind: What the name says it is.
            parts: Files that are read as one.
            start: The medium's first byte in them.
            size: Its bytes.
        """
        used = self._process is not None
        ended = self._ask(kind, parts, start, size)
        if isinstance(ended, int) and used and ended != -signal.SIGALRM:
            ended = self._ask(kind, parts, start, size)
        if not isinstance(ended, int):
            return ended
        if ended == -signal.SIGALRM:
            return {"error": f"the decoder did not end within {self.seconds:g} s"}
        how = f"signal {-ended}" if ended < 0 else f"exit code {ended}"
        return {"error": f"crashed the decoder: {how}"}

    def new_copy(self) -> BinaryIO:
        """Return an empty file for a medium whose bytes lie in no file of their own."""
        self._copy.seek(0)
        self._copy.truncate()
        return cast(BinaryIO, self._copy)

    def probe_copy(self, kind: MediaKind) -> dict[str, Any]:
        """Read the header of the medium that was written to the last :meth:`new_copy`."""
        self._copy.flush()
        part = Path(f"/dev/fd/{self._copy.fileno()}")
        return self.probe(kind, [part], 0, self._copy.tell())

    def close(self) -> None:
        """End the process."""
        self._end()
        self._copy.close()

    def _ask(
        self, kind: MediaKind, parts: Sequence[Path], start: int, size: int
    ) -> dict[str, Any] | int:
        """Return the header, or the exit code of the process."""
        if self._process is None:
            self._process = WorkerProcess("omnistage.probe_child", [self._copy.fileno()])
            try:
                self._process.ask({})
            except WorkerEndedError as e:  # before it saw a medium: the machine's fault
                self._end()
                raise StageFailedError(f"the media probe could not be started: {e}") from e
        task = {
            "kind": kind,
            "parts": [str(part) for part in parts],
            "start": start,
            "size": size,
            "seconds": self.seconds,
        }
        try:
            return self._process.ask(task)["media"]
        except WorkerEndedError as e:
            self._end()
            return e.code

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.close()
            self._process = None
