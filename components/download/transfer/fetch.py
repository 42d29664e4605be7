"""Fetch many files side by side: resumed, retried, watched and capped."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from components.download.config import Transfer
from components.download.transfer.http import Http
from components.download.transfer.part_file import SEGMENT, PartFile
from components.download.transfer.remote_file import Place, RemoteFile
from components.download.transfer.xet import fetch_by_xet
from omnistage.errors import InputError, TransientError, machine_errors
from omnistage.files import counted

T = TypeVar("T")
_PROGRESS = 1 << 16  # new bytes that make a failed try a good one
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0  # seconds between tries


@dataclass(eq=False)
class FileTransfer:
    """A file being fetched."""

    file: RemoteFile
    part_path: Path
    part: PartFile | None = None
    left: int = 0
    """Segments still to be fetched."""
    first_place: int = 0
    """Raised after a place served wrong bytes, so that another is tried first."""
    last_place: int = 0
    """The one that worked last."""

    @property
    def have(self) -> int:
        """Bytes here."""
        return self.part.have if self.part else 0


class Throttle:
    """A cap on the bytes per second of all threads together.

    Args:
        rate: Bytes per second, or None for no cap.
    """

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, count: int) -> None:
        """Wait until ``count`` more bytes are allowed."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - 0.1) + count / self._rate
            wait = self._free_at - now
        if wait > 0:
            time.sleep(wait)


class Fetcher:
    """Threads that fetch files in the order given, each file in segments.

    Args:
        jobs: The files.
        transfer: How.
        started: Called, on a thread, when a file's part file is open and may be followed.
        fetched: Called, on a thread, when all bytes of a file are here.
        failed: Called, on a thread, with the error that ends the work.
        warn: Called, on a thread, with something the user should know.
    """

    def __init__(
        self,
        jobs: Sequence[FileTransfer],
        transfer: Transfer,
        started: Callable[[FileTransfer], None],
        fetched: Callable[[FileTransfer], None],
        failed: Callable[[BaseException], None],
        warn: Callable[[str], None],
    ) -> None:
        self._transfer = transfer
        self._started, self._fetched, self._failed = started, fetched, failed
        self._warn = warn
        self._http = Http(transfer.workers, transfer.stall_seconds)
        self._throttle = Throttle(transfer.bandwidth)
        self._queue: deque[tuple[FileTransfer, int | None]] = deque((job, None) for job in jobs)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"fetch-{n}", daemon=True)
            for n in range(transfer.workers)
        ]

    def __enter__(self) -> "Fetcher":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=5)  # one in a silent connection ends with the process

    def again(self, job: FileTransfer) -> None:
        """Fetch a file anew from its first byte, from another place if it has one."""
        job.first_place = job.last_place + 1
        assert job.part is not None  # it was fetched before
        job.part.restart(job.file.size, job.part.step)
        with self._changed:
            self._queue.append((job, None))
            self._changed.notify()

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                    if self._stop.is_set():
                        return
                job, segment = self._queue.popleft()
            try:
                with machine_errors(f"fetching {job.file.path}"):
                    if segment is None:
                        self._open(job)
                    else:
                        self._segment(job, segment)
            except _StoppedError:
                return
            except BaseException as e:  # the main thread raises it
                self._stop.set()
                self._failed(e)
                return

    def _open(self, job: FileTransfer) -> None:
        file = job.file
        if job.part is None:
            size, ranges, etag = file.size, True, file.etag
            if size is None or size > SEGMENT:
                size, ranges, etag = self._look(job)
            trusted = bool(file.sha256 or file.git_sha1)
            identity = f"{file.identity}\n{etag or ''}"
            step = SEGMENT if ranges else 0
            job.part = PartFile(job.part_path, size, identity, trusted, step)
        part = job.part
        if part.have == 0 and file.xet and self._transfer.xet and not self._transfer.bandwidth:
            problem = fetch_by_xet(
                file.xet, part.path, self._transfer.stall_seconds, self._stop.is_set
            )
            self._halt()
            if problem is None:
                part.adopt()
            else:
                self._warn(f"{file.path}: xet failed ({problem}); fetching it without xet")
        self._started(job)  # not before: xet puts another file in the place of the followed one
        segments = [n for n in range(part.segments) if not part.complete(n)]
        job.left = len(segments)
        if not segments:
            part.whole()
            self._fetched(job)
            return
        with self._changed:
            self._queue.extendleft((job, n) for n in reversed(segments))
            self._changed.notify_all()

    def _look(self, job: FileTransfer) -> tuple[int | None, bool, str | None]:
        """Return size, whether ranges are served, and entity tag, as the first place says."""
        file = job.file

        def ask(place: Place) -> tuple[int | None, bool, str | None]:
            if place.path:
                return place.path.stat().st_size, True, None
            header = self._http.header(place)
            if file.size is not None and header.size not in (None, file.size):
                raise InputError(
                    f"{file.url}: has {header.size} bytes, the recipe or the source says "
                    f"{file.size}"
                )
            known = header.size if file.size is None else file.size
            return known, header.ranges, header.etag if file.etag is None else file.etag

        return self._tried(job, ask, lambda: 0)

    def _segment(self, job: FileTransfer, segment: int) -> None:
        part = job.part
        assert part is not None  # opened before its segments are queued
        while not part.complete(segment):
            self._tried(
                job,
                lambda place: self._receive(job, part, segment, place),
                lambda: part.span(segment)[0],
            )
            if part.size is None:
                break
        with self._changed:
            job.left -= 1
            last = not job.left
        if last:
            part.whole()
            self._fetched(job)

    def _receive(self, job: FileTransfer, part: PartFile, segment: int, place: Place) -> None:
        start, end = part.span(segment)
        if place.path:
            with place.path.open("rb") as f:
                f.seek(start)
                while data := f.read(min(1 << 20, (end or 1 << 62) - start)):
                    self._take(part, segment, data)
                    start += len(data)
        else:
            with self._http.range(place, start, end, part.size, job.file.etag) as chunks:
                for data in chunks:
                    self._take(part, segment, data)
                    start += len(data)
        if end is not None and start < end:
            raise TransientError(f"the connection was dropped {end - start} bytes early")

    def _take(self, part: PartFile, segment: int, data: bytes) -> None:
        self._halt()
        self._throttle.take(len(data))
        part.write(segment, data)

    def _tried(
        self, job: FileTransfer, act: Callable[[Place], T], position: Callable[[], int]
    ) -> T:
        """Act on one place after another until it works, waiting longer after each failure."""
        failures, refused = 0, 0
        turn = job.first_place
        while True:
            self._halt()
            places = job.file.places()
            place = places[turn % len(places)]
            before = position()
            try:
                done = act(place)
                job.last_place = turn % len(places)
                return done
            except InputError as e:
                refused += 1
                if refused >= len(places):
                    raise InputError(f"{job.file.path}: {e}") from e
                turn += 1
            except TransientError as e:
                failures = 1 if position() - before >= _PROGRESS else failures + 1
                if failures >= self._transfer.tries:
                    raise TransientError(
                        f"{job.file.url}: given up after "
                        f"{counted(failures, 'try', 'tries')}: {e}; what was fetched is kept, run "
                        "it again to go on"
                    ) from e
                turn += 1
                self._stop.wait(e.wait if e.wait is not None else _backoff(failures))

    def _halt(self) -> None:
        if self._stop.is_set():
            raise _StoppedError


class _StoppedError(Exception):
    """The work ends: another file failed, or all is done."""


def _backoff(failures: int) -> float:
    """Seconds to wait, doubling, with up to half taken off so that clients do not march in step."""
    return min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (failures - 1)) * random.uniform(0.5, 1)
