"""Converts record files chunk by chunk, in one process or several, with the same result."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import orjson

from components.rewrite_paths.members import AUDIO, SOUND_CLIP, VIDEO
from components.rewrite_paths.rows import RowError
from components.rewrite_paths.rowwork import (
    Built,
    LeftOutError,
    RowWorker,
    Shared,
    Wish,
    histogram,
)
from components.rewrite_paths.sources import Source
from components.rewrite_paths.tally import (
    CHARACTER_BINS,
    OUTPUTS,
    SECOND_BINS,
    Rejected,
    Tally,
)
from components.rewrite_paths.turns import ManyProcesses, OneProcess, Turns
from omnistage.errors import StageFailedError

CHUNK = 4 << 20  # bytes of input: enough to hide the overhead, little enough for memory
_LISTS = {AUDIO: "audios", VIDEO: "videos", SOUND_CLIP: "videos"}


@dataclass(frozen=True)
class Chunk:
    """A stretch of whole lines of a record file."""

    source: int
    start: int
    end: int


@dataclass
class Rows:
    """What is remembered of each record of an output file, for arranging it."""

    sizes: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    keys: list[np.ndarray] = field(default_factory=list)
    groups: list[np.ndarray] = field(default_factory=list)

    def add(self, other: "Rows") -> None:
        """Append the records of the chunk that comes next."""
        for name in ("sizes", "labels", "keys", "groups"):
            getattr(self, name).extend(getattr(other, name))


@dataclass
class Report:
    """What a chunk came to."""

    tally: Tally
    rows: dict[str, Rows]
    texts: set[bytes]


@dataclass(frozen=True)
class Job:
    """What is needed to convert the files of one split.

    Attributes:
        sources: The record files.
        shared: Index and marks.
        wish: What records are wanted.
        gives_test: For each source whether the split may take test records from it.
        folder: Where the output files are, one for each of ``OUTPUTS``.
        remember: Whether sizes, labels and keys of records are needed afterwards.
    """

    sources: Sequence[Source]
    shared: Shared
    wish: Wish
    gives_test: Sequence[bool]
    folder: Path
    remember: bool


def convert_all(
    job: Job, workers: int, offsets: Sequence[int], progress: Callable[[int], None]
) -> tuple[list[Report], list[int]]:
    """Convert the rows of a job's files into the output files.

    Args:
        job: What to do.
        workers: Processes; a small job is done in this one.
        offsets: Where the output files end now.
        progress: Told the bytes done after each chunk.

    Returns:
        The chunks' reports in order, and where the output files end now.

    Raises:
        StageFailedError: If a process ends before its work.
    """
    chunks = [c for n, s in enumerate(job.sources) for c in cut(n, s.path)]
    workers = min(workers, len(chunks))
    if workers <= 1:
        alone = OneProcess(offsets)
        reports: list[Report] = []
        _work(job, chunks, alone, lambda number, report: reports.append(report), progress)
        return reports, alone.offsets
    return _convert_in_processes(job, chunks, workers, offsets, progress)


def cut(source: int, path: Path) -> Iterator[Chunk]:
    """Cut a file into chunks of whole lines."""
    size = path.stat().st_size
    with path.open("rb") as f:
        start = 0
        while start < size:
            end = min(start + CHUNK, size)
            if end < size:
                f.seek(end - 1)
                while (block := f.read(1 << 16)) and b"\n" not in block:
                    end += len(block)
                end = min(end + block.find(b"\n"), size) if block else size
            yield Chunk(source, start, end)
            start = end


def _convert_in_processes(
    job: Job,
    chunks: Sequence[Chunk],
    workers: int,
    offsets: Sequence[int],
    progress: Callable[[int], None],
) -> tuple[list[Report], list[int]]:
    # A forked process shares the index with this one instead of reading it again.
    context = multiprocessing.get_context("fork")
    turns = ManyProcesses(offsets, context)
    pipes: dict[Connection, BaseProcess] = {}
    reports: dict[int, Report] = {}
    try:
        for _ in range(workers):
            here, there = context.Pipe(duplex=False)
            process = context.Process(
                target=_work_for, args=(job, chunks, turns, there), daemon=True
            )
            process.start()
            there.close()
            pipes[here] = process
        _collect(pipes, chunks, reports, progress)
    finally:
        for pipe, process in pipes.items():
            process.terminate()
            process.join()
            pipe.close()
    return [reports[number] for number in range(len(chunks))], turns.offsets


def _collect(
    pipes: dict[Connection, BaseProcess],
    chunks: Sequence[Chunk],
    reports: dict[int, Report],
    progress: Callable[[int], None],
) -> None:
    done = 0
    waiting = list(pipes)
    while len(reports) < len(chunks):
        for pipe in wait(waiting):
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv()
            except EOFError:
                # The others may wait for its chunk for ever, so that nobody can go on.
                process = pipes[pipe]
                process.join()
                if process.exitcode != 0:
                    raise StageFailedError(
                        f"a process of rewrite_paths ended with exit code {process.exitcode}; "
                        "see the lines above, or set rewrite_paths.workers to 1"
                    ) from None
                waiting.remove(pipe)
                continue
            if isinstance(message, BaseException):
                raise message
            number, report = message
            reports[number] = report
            done += chunks[number].end - chunks[number].start
            progress(done)


def _work_for(job: Job, chunks: Sequence[Chunk], turns: Turns, pipe: Connection) -> None:
    try:
        _work(job, chunks, turns, lambda *result: pipe.send(result), lambda _: None)
    except OSError as e:
        pipe.send(e)


def _work(
    job: Job,
    chunks: Sequence[Chunk],
    turns: Turns,
    deliver: Callable[[int, Report], None],
    progress: Callable[[int], None],
) -> None:
    """Convert chunk after chunk until none is left."""
    outputs = [
        os.open(job.folder / f"{name}.jsonl", os.O_WRONLY | os.O_CREAT, 0o644) for name in OUTPUTS
    ]
    try:
        worker: RowWorker | None = None
        current = -1
        while (number := turns.claim()) < len(chunks):
            chunk = chunks[number]
            if worker is None or current != chunk.source:
                current = chunk.source
                worker = RowWorker(
                    job.sources[current], job.shared, job.wish, job.gives_test[current]
                )
            report = _convert_chunk(job, chunk, number, worker, turns, outputs)
            deliver(number, report)
            progress(chunk.end)
    finally:
        for handle in outputs:
            os.close(handle)


def _convert_chunk(
    job: Job, chunk: Chunk, number: int, worker: RowWorker, turns: Turns, outputs: list[int]
) -> Report:
    lines, first, wanted = _read_lines(chunk, number, worker.source, turns)
    work = ChunkWork(worker, job.remember)
    if first == 0 and lines:
        lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
    work.convert(lines, first, wanted)
    blobs = [b"".join(work.parts[name]) for name in OUTPUTS]
    places = turns.places(number, [len(blob) for blob in blobs])
    for handle, blob, place in zip(outputs, blobs, places, strict=True):
        _write_at(handle, blob, place)
    return work.report()


def _read_lines(
    chunk: Chunk, number: int, source: Source, turns: Turns
) -> tuple[list[bytes], int, np.ndarray | None]:
    """Return a chunk's lines, the lines before it, and which of its rows are wanted."""
    with source.path.open("rb") as f:
        f.seek(chunk.start)
        text = f.read(chunk.end - chunk.start)
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    rows = len(lines)
    if source.wanted is not None:
        rows = sum(1 for line in lines if line and not line.isspace())
    before, rows_before = turns.first_line(number, len(lines), rows, chunk.start == 0)
    wanted = None if source.wanted is None else source.wanted[rows_before : rows_before + rows]
    return lines, before, wanted


def _write_at(handle: int, blob: bytes, place: int) -> None:
    view = memoryview(blob)
    while view:
        written = os.pwrite(handle, view, place)
        view, place = view[written:], place + written


class ChunkWork:
    """The rows of one chunk while they are converted.

    Args:
        worker: Converts single rows.
        remember: Whether to keep what arranging needs.
    """

    def __init__(self, worker: RowWorker, remember: bool) -> None:
        self.worker = worker
        self.remember = remember
        self.tally = Tally()
        self.parts: dict[str, list[bytes]] = {name: [] for name in OUTPUTS}
        self.characters: dict[str, list[int]] = {}
        self.members: list[int] = []
        self.built: dict[str, list[Built]] = {}

    def convert(self, lines: list[bytes], first: int, wanted: np.ndarray | None) -> None:
        """Convert the lines of a chunk.

        Args:
            lines: Without their line ends.
            first: Lines of the file before them.
            wanted: For each line that is not blank whether it is wanted; None for all.
        """
        row = read = 0
        for number, line in enumerate(lines, first + 1):
            if not line or line.isspace():
                continue
            row += 1
            if wanted is not None and not wanted[row - 1]:
                self._leave_out("sampling")
                continue
            read += 1
            self._convert_row(line, number)
        self.tally.read[self.worker.source.split] += row

    def _convert_row(self, line: bytes, number: int) -> None:
        try:
            built = self.worker.convert(line, number)
        except RowError as e:
            self._reject(line, number, e)
        except LeftOutError as e:
            self._leave_out(str(e))
        else:
            self.parts[built.split].append(built.line)
            self.tally.kept[built.count] += 1
            self.characters.setdefault(built.split, []).append(built.characters)
            self.members.extend(built.members)
            if self.remember:
                self.built.setdefault(built.split, []).append(built)

    def report(self) -> Report:
        """Return what the chunk came to."""
        index = self.worker.shared.index
        for split, characters in self.characters.items():
            self.tally.characters[split] = histogram(characters, CHARACTER_BINS)
        seconds: dict[str, list[float]] = {}
        for member in self.members:
            name = _LISTS.get(index.kinds[member])
            if name:
                seconds.setdefault(name, []).append(index.seconds[member])
        for name, values in seconds.items():
            self.tally.seconds[name] = histogram(values, SECOND_BINS)
        group = self.worker.source.group
        rows = {
            split: Rows(
                [np.array([len(b.line) for b in built], dtype=np.uint32)],
                [np.array([b.label for b in built], dtype=np.uint8)],
                [np.array([b.key for b in built], dtype=np.uint64)],
                [np.full(len(built), group, dtype=np.uint8)],
            )
            for split, built in self.built.items()
        }
        return Report(self.tally, rows, self.worker.shared.test_texts)

    def _leave_out(self, cause: str) -> None:
        self.tally.left_out[self.worker.source.split, cause] += 1

    def _reject(self, line: bytes, number: int, error: RowError) -> None:
        source = self.worker.source
        self.tally.reject(source.split, error.reason, Rejected(source.shown, number, error.detail))
        head = orjson.dumps(
            {
                "file": source.shown,
                "line": number,
                "split": source.split,
                "reason": error.reason,
                "detail": error.detail,
            }
        )
        if error.reason == "not_json":
            row = b'"text":' + orjson.dumps(line.decode("utf-8", "backslashreplace"))
        else:
            row = b'"row":' + line.strip()
        self.parts["rejected"].append(head[:-1] + b"," + row + b"}\n")
