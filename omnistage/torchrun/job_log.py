"""The log of a job: what its processes print, without secrets."""

import os
import threading
from pathlib import Path
from typing import IO

from omnistage.redact import redact

_LONGEST = 1 << 16  # bytes of a line that are kept back until it ends
_WAIT = 10.0  # seconds for what a process that left the job's group still holds


class JobLog:
    """Appends what comes out of a pipe to a file, redacted line by line.

    The log is part of a stage's artifact, and a plugin's traceback may print an address with its
    password. Where the log cannot be written, such as on a full disk, the pipe is emptied all the
    same: nobody waits for a log.

    Args:
        pipe: The output of the job; closed at its end.
        path: The log.
    """

    def __init__(self, pipe: IO[bytes], path: Path) -> None:
        self._pipe, self._path = pipe, path
        self._thread = threading.Thread(target=self._copy, name="job-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait until all that was printed is in the log."""
        self._thread.join(_WAIT)

    def _copy(self) -> None:
        pending = b""
        with self._pipe:
            while data := os.read(self._pipe.fileno(), _LONGEST):
                pending += data
                end = max(pending.rfind(b"\n"), pending.rfind(b"\r")) + 1
                if not end and len(pending) >= _LONGEST:
                    end = len(pending)
                self._write(pending[:end])
                pending = pending[end:]
        self._write(pending)

    def _write(self, data: bytes) -> None:
        if not data:
            return
        text = redact(data.decode(errors="surrogateescape"))
        try:
            with self._path.open("ab") as log:
                log.write(text.encode(errors="surrogateescape"))
        except OSError:
            return  # the job itself says that the disk is full
