"""Converts record files chunk by chunk, in one process or several, with the same result."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from components.rewrite_paths.convert.chunk import ChunkWork, Report
from components.rewrite_paths.convert.fast_path import Templates
from components.rewrite_paths.convert.row import ConversionState, RecordFilters, RowConverter
from components.rewrite_paths.convert.tally import OUTPUTS
from components.rewrite_paths.convert.write_order import ManyProcesses, OneProcess, WriteOrder
from components.rewrite_paths.sources.files import Source
from components.rewrite_paths.sources.lines import BYTE_ORDER_MARK, Lines, read_lines
from omnistage.errors import StageFailedError

_WAITING = 4  # converted chunks that a process keeps while those before them are not placed
CHUNK = 1 << 21  # bytes of input: enough to hide the overhead, little enough for memory


@dataclass(frozen=True)
class Chunk:
    """A stretch of whole lines of a record file."""

    source: int
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True)
class ConversionJob:
    """What is needed to convert the files of one split.

    Attributes:
        sources: The record files.
        state: Index and marks.
        filters: What records are wanted.
        gives_test: For each source whether the split may take test records from it.
        folder: Where the output files are, one for each of ``OUTPUTS``.
        remember: Whether sizes, labels and keys of records are needed afterwards.
    """

    sources: Sequence[Source]
    state: ConversionState
    filters: RecordFilters
    gives_test: Sequence[bool]
    folder: Path
    remember: bool


def convert_all(
    job: ConversionJob, workers: int, offsets: Sequence[int], deliver: Callable[[Report, int], None]
) -> list[int]:
    """Convert the rows of a job's files into the output files.

    Args:
        job: What to do.
        workers: Processes; a small job is done in this one.
        offsets: Where the output files end now.
        deliver: Given the reports of the chunks in their order, with the chunk's bytes.

    Returns:
        Where the output files end now.

    Raises:
        StageFailedError: If a process ends before its work.
    """
    chunks = [c for n, s in enumerate(job.sources) for c in cut(n, s.path)]
    workers = min(workers, len(chunks))
    if workers <= 1:
        alone = OneProcess(offsets)
        _work(job, chunks, alone, lambda n, report: deliver(report, chunks[n].size))
        return alone.offsets
    return _convert_in_processes(job, chunks, workers, offsets, deliver)


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
    job: ConversionJob,
    chunks: Sequence[Chunk],
    workers: int,
    offsets: Sequence[int],
    deliver: Callable[[Report, int], None],
) -> list[int]:
    # A forked process shares the index with this one instead of reading it again.
    context = multiprocessing.get_context("fork")
    order = ManyProcesses(offsets, context)
    pipes: dict[Connection, BaseProcess] = {}
    try:
        for _ in range(workers):
            here, there = context.Pipe(duplex=False)
            process = context.Process(
                target=_work_for, args=(job, chunks, order, there), daemon=True
            )
            process.start()
            there.close()
            pipes[here] = process
        _collect(pipes, chunks, deliver)
    finally:
        for pipe, process in pipes.items():
            process.terminate()
            process.join()
            pipe.close()
    return order.offsets


def _collect(
    pipes: dict[Connection, BaseProcess],
    chunks: Sequence[Chunk],
    deliver: Callable[[Report, int], None],
) -> None:
    early: dict[int, Report] = {}
    done = 0
    waiting = list(pipes)
    while done < len(chunks):
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
            early[number] = report
        while done in early:
            deliver(early.pop(done), chunks[done].size)
            done += 1


def _work_for(
    job: ConversionJob, chunks: Sequence[Chunk], order: WriteOrder, pipe: Connection
) -> None:
    try:
        _work(job, chunks, order, lambda *result: pipe.send(result))
    except OSError as e:
        pipe.send(e)


def _work(
    job: ConversionJob,
    chunks: Sequence[Chunk],
    order: WriteOrder,
    deliver: Callable[[int, Report], None],
) -> None:
    """Convert chunk after chunk until none is left."""
    outputs = [
        os.open(job.folder / f"{name}.jsonl", os.O_WRONLY | os.O_CREAT, 0o644) for name in OUTPUTS
    ]
    waiting: deque[tuple[int, list[bytes], Report]] = deque()

    def place_next(wait: bool) -> bool:
        number, blobs, report = waiting[0]
        if not _place(number, blobs, order, outputs, wait):
            return False
        waiting.popleft()
        deliver(number, report)
        return True

    try:
        templates: Templates | None = None
        scratch = np.empty(max((c.size for c in chunks), default=0), dtype=bool)
        current = -1
        while (number := order.claim()) < len(chunks):
            chunk = chunks[number]
            if templates is None or current != chunk.source:
                current = chunk.source
                source, gives = job.sources[current], job.gives_test[current]
                templates = Templates(RowConverter(source, job.state, job.filters, gives))
            work = _convert_chunk(job, chunk, number, templates, order, scratch)
            blobs = [b"".join(work.parts[name]) for name in OUTPUTS]
            waiting.append((number, blobs, work.report()))
            # A process that was held up must not hold up the others at once.
            while waiting and place_next(wait=len(waiting) > _WAITING):
                pass
        while waiting:
            place_next(wait=True)
    finally:
        for handle in outputs:
            os.close(handle)


def _convert_chunk(
    job: ConversionJob,
    chunk: Chunk,
    number: int,
    templates: Templates,
    order: WriteOrder,
    scratch: np.ndarray,
) -> ChunkWork:
    source = templates.worker.source
    lines = read_lines(read_chunk(source.path, chunk), scratch)
    rows = len(lines) if source.wanted is None else rows_in(lines)
    first, rows_before = order.first_line(number, len(lines), rows, chunk.start == 0)
    wanted = None if source.wanted is None else source.wanted[rows_before : rows_before + rows]
    work = ChunkWork(templates.worker, templates, job.remember)
    work.convert(lines, first, wanted)
    return work


def _place(
    number: int, blobs: list[bytes], order: WriteOrder, outputs: list[int], wait: bool
) -> bool:
    """Write what a chunk gave to where it belongs, if that is known; return whether it was."""
    places = order.places(number, [len(blob) for blob in blobs], wait)
    if places is None:
        return False
    for handle, blob, place in zip(outputs, blobs, places, strict=True):
        _write_at(handle, blob, place)
    return True


def rows_in(lines: Lines) -> int:
    """Return how many lines are not blank."""
    return sum(1 for place in range(len(lines)) if lines[place].strip())


def read_chunk(path: Path, chunk: Chunk) -> bytes:
    """Return the bytes of a chunk, without a byte order mark."""
    with path.open("rb") as f:
        f.seek(chunk.start)
        text = f.read(chunk.end - chunk.start)
    return text.removeprefix(BYTE_ORDER_MARK) if chunk.start == 0 else text


def _write_at(handle: int, blob: bytes, place: int) -> None:
    view = memoryview(blob)
    while view:
        written = os.pwrite(handle, view, place)
        view, place = view[written:], place + written
