"""Fetch, verify and index a list of files: the middle of both stages.

Threads fetch; processes hash what has arrived and index archives while they stream by; this module
compares the hashes with what was stated, gives the files their final names and writes it down.
"""

import contextlib
import hashlib
import os
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.download.config import Limits, Transfer
from components.download.transfer.fetch import Fetcher, FileTransfer
from components.download.transfer.journal import Journal
from components.download.transfer.remote_file import RemoteFile
from omnistage.archives.names import Archive, group_archives
from omnistage.errors import InputError, machine_errors
from omnistage.events import Events
from omnistage.files import free_bytes, human_bytes
from omnistage.workers.pool import WorkerPool

_REPORTED_EVERY = 0.5  # seconds
_ATTEMPTS = 3  # at bytes with a wrong hash; more where a file has more mirrors
_PROBE_SECONDS = 60.0  # longest time a medium's header may take; most take milliseconds
_SPARE = 64 << 20  # bytes left free beside the files, for the index and the journal


@dataclass(frozen=True)
class Indexing:
    """How archives and media are read."""

    limits: Limits
    encoding: str | None
    decode: bool
    """Whether all of a medium is decoded, and not its header only."""


@dataclass(frozen=True)
class Collected:
    """What was fetched."""

    entries: dict[str, dict[str, Any]]
    """Path to sha256, size and, for loose media, the header."""
    archives: list[Archive]
    rows: Callable[[Archive], Path]
    """The file with an archive's index rows."""


@dataclass(eq=False)
class _Task:
    """A file on its way: what is fetched of it, and what the worker processes say of it."""

    job: FileTransfer
    archive: Archive | None
    """Indexed while it arrives; None for other files and for parts."""
    digest: "Future[dict[str, Any]] | None" = None
    index: "Future[dict[str, Any]] | None" = None
    whole: bool = False
    wrong: list[str] = field(default_factory=list)
    """sha256 of earlier attempts that were not the stated one."""


def collect(
    files: Sequence[RemoteFile],
    out: Path,
    work: Path,
    transfer: Transfer,
    indexing: Indexing | None,
    events: Events,
) -> Collected:
    """Fetch files to ``out``, verified, and index their archives.

    What an earlier attempt left in ``out`` and ``work`` is used: verified files are kept, partly
    fetched ones go on where they stopped.

    Args:
        files: What to fetch; no two have the same path.
        out: Folder of the final names.
        work: Folder for partly fetched files, index rows and the journal.
        transfer: How.
        indexing: How archives are read; None leaves archives and media alone.
        events: Where progress goes.

    Raises:
        InputError: If a hash or size is not as stated, an archive is hostile or damaged, or the
            disk is too full.
        TransientError: If a source fails for longer than the settings allow.
    """
    return _Collection(files, out, work, transfer, indexing, events).run()


class _Collection:
    def __init__(
        self,
        files: Sequence[RemoteFile],
        out: Path,
        work: Path,
        transfer: Transfer,
        indexing: Indexing | None,
        events: Events,
    ) -> None:
        self._out, self._transfer, self._indexing, self._events = out, transfer, indexing, events
        self._parts, self._rows_folder = work / "parts", work / "rows"
        with machine_errors("preparing the download"):
            for folder in (out, self._parts, self._rows_folder):
                folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(work / "verified.jsonl", out)
        self._archives = group_archives(f.path for f in files) if indexing else []
        whole = {a.name: a for a in self._archives if len(a.parts) == 1}
        self._entries: dict[str, dict[str, Any]] = {}
        self._tasks: dict[FileTransfer, _Task] = {}
        for file in files:
            part = self._parts / _id(file.path)
            archive = whole.get(file.path)
            entry = self._journal.find(file, part)
            if entry and (archive is None or self._rows(archive).is_file()):
                self._entries[file.path] = entry
                continue
            if entry:  # verified, but its index was lost: read it again, not fetch it
                whole.pop(file.path)
                self._entries[file.path] = entry
                self._events.message(f"{file.path}: indexing it again")
                continue
            job = FileTransfer(file, part)
            self._tasks[job] = _Task(job, archive)
        kept = sum(e["size"] for e in self._entries.values())
        self._kept = kept
        sizes = [f.size for f in files]
        self._total = None if None in sizes else sum(s for s in sizes if s is not None)
        self._count = len(files)
        self._reported = 0.0
        self._events_queue: queue.Queue[Callable[[], None]] = queue.Queue()

    def run(self) -> Collected:
        self._check_disk()
        cores = os.cpu_count() or 1
        with WorkerPool(
            "components.download.index.worker", self._transfer.processes or min(cores, 16)
        ) as self._pool:
            if self._tasks:
                self._fetch()
            self._index_the_rest()
        return Collected(self._entries, self._archives, self._rows)

    def _fetch(self) -> None:
        calls = self._events_queue

        def fail(error: BaseException) -> None:
            def throw() -> None:
                raise error

            calls.put(throw)

        with Fetcher(
            list(self._tasks),
            self._transfer,
            started=lambda job: calls.put(lambda: self._follow(self._tasks[job])),
            fetched=lambda job: calls.put(lambda: self._fetched(self._tasks[job])),
            failed=fail,
            warn=lambda text: calls.put(lambda: self._events.warn(text)),
        ) as self._fetcher:
            while self._tasks:
                call = None
                with contextlib.suppress(queue.Empty):  # then only the progress is due
                    call = calls.get(timeout=0.2)
                if call:
                    call()
                self._report()

    def _follow(self, task: _Task) -> None:
        """Have a file that has begun to arrive hashed and, if it is an archive, indexed."""
        path = str(task.job.part_path)
        task.digest = self._submit(
            task,
            {
                "do": "digest",
                "path": path,
                "name": task.job.file.path,
                "git": task.job.file.git_sha1 is not None,
                "probe": self._indexing is not None and task.archive is None,
                "probe_seconds": _PROBE_SECONDS,
                "decode": self._indexing is not None and self._indexing.decode,
            },
        )
        if task.archive:
            task.index = self._submit(task, self._index_task(task.archive, [path], growing=True))

    def _submit(self, task: _Task, request: dict[str, Any]) -> "Future[dict[str, Any]]":
        future = self._pool.submit(request)
        future.add_done_callback(
            lambda done: (
                None if done.cancelled() else self._events_queue.put(lambda: self._settle(task))
            )
        )
        return future

    def _fetched(self, task: _Task) -> None:
        task.whole = True
        self._settle(task)

    def _settle(self, task: _Task) -> None:
        """Verify a file once all that is to be known of it is known."""
        if task.job not in self._tasks or not task.whole or task.digest is None:
            return
        if not task.digest.done() or (task.index and not task.index.done()):
            return
        found = task.digest.result()
        if found.get("given_up"):
            self._follow(task)
            return
        problem = _difference(task.job.file, found)
        if problem:
            self._refetch(task, found, problem)
            return
        if task.index and task.index.result().get("given_up"):
            self._follow(task)
            return
        part = task.job.part
        assert part is not None  # it was fetched
        with machine_errors(f"storing {task.job.file.path}"):
            entry = self._journal.add(task.job.file, task.job.part_path, found)
            part.move_to(self._out / task.job.file.path)
        self._entries[task.job.file.path] = entry
        self._kept += entry["size"]
        del self._tasks[task.job]

    def _refetch(self, task: _Task, found: dict[str, Any], problem: str) -> None:
        file = task.job.file
        places = len(file.places())
        task.wrong.append(found["sha256"])
        if places == 1 and found["sha256"] in task.wrong[:-1]:
            raise InputError(
                f"{file.url}: {problem}, twice the same; the recipe or the source states a wrong "
                "hash, or the source's file is damaged"
            )
        if len(task.wrong) == max(_ATTEMPTS, places):
            raise InputError(f"{file.url}: {problem}; {len(task.wrong)} attempts gave no right one")
        self._events.warn(f"{file.path}: {problem}; fetching it again")
        task.whole, task.digest, task.index = False, None, None
        self._fetcher.again(task.job)

    def _index_the_rest(self) -> None:
        """Index split archives, whose parts are all here now."""
        futures = []
        for archive in self._archives:
            if not self._rows(archive).is_file():
                parts = [str(self._out / part) for part in archive.parts]
                futures.append(self._pool.submit(self._index_task(archive, parts, growing=False)))
        for future in futures:
            future.result()

    def _index_task(self, archive: Archive, parts: list[str], growing: bool) -> dict[str, Any]:
        assert self._indexing is not None  # archives are looked for only then
        return {
            "do": "index",
            "parts": parts,
            "growing": growing,
            "spanned": len(parts) > 1 and archive.name == archive.parts[-1],
            "name": archive.whole,
            "limits": self._indexing.limits.model_dump(),
            "encoding": self._indexing.encoding,
            "probe_seconds": _PROBE_SECONDS,
            "decode": self._indexing.decode,
            "rows": str(self._rows(archive)),
        }

    def _rows(self, archive: Archive) -> Path:
        """Named by what was indexed, so that rows of other bytes or settings are never taken."""
        read = (self._indexing.encoding, self._indexing.decode) if self._indexing else None
        return self._rows_folder / f"{_id(f'{archive.parts} {read}')}.jsonl"

    def _report(self) -> None:
        now = time.monotonic()
        if self._tasks and now - self._reported < _REPORTED_EVERY:
            return
        self._reported = now
        have = self._kept + sum(job.have for job in self._tasks)
        self._events.progress(
            have, self._total, unit="bytes", files=f"{len(self._entries)}/{self._count}"
        )

    def _check_disk(self) -> None:
        needed = sum(
            max(0, (job.file.size or 0) - _allocated(job.part_path)) for job in self._tasks
        )
        free = free_bytes(self._out)
        if needed and needed + _SPARE > free:
            raise InputError(
                f"{self._out}: {human_bytes(free)} free, {human_bytes(needed)} are still to be "
                "fetched; free some space or choose a store on another disk"
            )


def _difference(file: RemoteFile, found: dict[str, Any]) -> str | None:
    if file.size is not None and found["size"] != file.size:
        return f"{found['size']} bytes, {file.size} were stated"
    if file.sha256 and found["sha256"] != file.sha256:
        return f"sha256 is {found['sha256']}, {file.sha256} was stated"
    if file.git_sha1 and found["git_sha1"] != file.git_sha1:
        return f"git hash is {found['git_sha1']}, {file.git_sha1} was stated"
    return None


def _allocated(path: Path) -> int:
    return path.stat().st_blocks * 512 if path.is_file() else 0


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
