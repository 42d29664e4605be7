"""Converts the rows of one chunk and counts what becomes of them."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import orjson

from components.rewrite_paths.convert.converted import ConvertedRow
from components.rewrite_paths.convert.fast_path import FastPathRows, Templates
from components.rewrite_paths.convert.row import (
    LABELS,
    LeftOutError,
    RowConverter,
    count_seconds,
    histogram,
)
from components.rewrite_paths.convert.tally import CHARACTER_BINS, OUTPUTS, Rejected, Tally
from components.rewrite_paths.draft import RowError
from components.rewrite_paths.sources.lines import Lines


@dataclass
class Rows:
    """What is remembered of each record of an output file, for arranging it.

    Attributes:
        sizes: Bytes.
        labels: Place of the label in ``LABELS``.
        keys: Digest of what makes two records the same.
        groups: Number of the recipe's entry.
    """

    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint32))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    groups: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint16))

    def __len__(self) -> int:
        return len(self.sizes)


def join_rows(parts: list[Rows]) -> Rows:
    """Return the records of chunks that follow one another."""
    if not parts:
        return Rows()
    return Rows(
        np.concatenate([part.sizes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.groups for part in parts]),
    )


@dataclass
class Report:
    """Results of one chunk."""

    tally: Tally
    rows: dict[str, Rows]
    texts: set[bytes]


@dataclass
class _Kept:
    """Records of one split while a chunk is converted."""

    characters: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    members: list[int] = field(default_factory=list)


class ChunkWork:
    """The rows of one chunk while they are converted.

    Args:
        worker: Converts single rows.
        templates: Converts plain rows of the same file faster.
        remember: Whether to keep what arranging needs.
    """

    def __init__(self, worker: RowConverter, templates: Templates, remember: bool) -> None:
        self.worker = worker
        self.templates = templates
        self.remember = remember
        self.tally = Tally()
        self.parts: dict[str, list[bytes]] = {name: [] for name in OUTPUTS}
        self.kept = {name: _Kept() for name in OUTPUTS}

    def convert(self, lines: Lines, first: int, wanted: np.ndarray | None) -> None:
        """Convert the lines of a chunk.

        Args:
            lines: The chunk.
            first: Lines of the file before them.
            wanted: For each line that is not blank whether it is wanted; None for all.
        """
        split = self.worker.source.split
        if wanted is None:
            rows = self._convert_lines(lines, first)
        else:
            rows = len(wanted)
            taken = self._convert_lines(blank_out(lines, wanted), first)
            self.tally.leave_out(split, "sampling", rows - taken)
        self.tally.read[split] += rows

    def _convert_lines(self, lines: Lines, first: int) -> int:
        """Convert lines, passing over blank ones; return how many are not blank."""
        at = blank = 0
        while at < len(lines):
            if lines.plain:
                at = self._convert_plain(lines, at, first)
                if at == len(lines) or self.templates.switch(lines[at]):
                    continue
            line = lines[at]
            at += 1
            if not line or line.isspace():
                blank += 1
                continue
            built = self._convert_row(line, first + at)
            if built and lines.plain:
                self.templates.learn(line, first + at, built)
        return len(lines) - blank

    def _convert_plain(self, lines: Lines, at: int, first: int) -> int:
        """Convert lines by the current template up to one that it does not fit; return where."""
        templates, source = self.templates, self.worker.source
        if templates.current is None:
            return at
        run = FastPathRows()
        end = templates.convert(lines, at, first + 1, run)
        if end == at:
            return at
        templates.mark(run)
        self.parts[source.split].extend(run.pieces)
        kept = self.kept[source.split]
        kept.members.extend(run.members)
        kept.characters.extend(run.characters)
        modality = templates.current.medium[:-1]
        for label, count in Counter(run.labels).items():
            self.tally.kept[source.split, source.label, "judge", modality, label] += count
        if self.remember:
            lengths = np.array([len(piece) for piece in run.pieces])
            kept.sizes.extend(lengths.reshape(-1, templates.pieces).sum(axis=1).tolist())
            kept.labels.extend(LABELS.index(label) for label in run.labels)
            kept.keys.extend([0] * len(run.labels))
        return end

    def _convert_row(self, line: bytes, number: int) -> ConvertedRow | None:
        """Convert one line the general way; return the record if it became one."""
        try:
            built = self.worker.convert(line, number)
        except RowError as e:
            self._reject(line, number, e)
            return None
        except LeftOutError as e:
            self.tally.leave_out(self.worker.source.split, str(e), 1)
            return None
        self.parts[built.split].append(built.line)
        self.tally.kept[built.count] += 1
        self.tally.dropped.update((built.split, column) for column in built.dropped)
        kept = self.kept[built.split]
        kept.members.extend(built.members)
        kept.characters.append(built.characters)
        if self.remember:
            kept.sizes.append(len(built.line))
            kept.labels.append(built.label)
            kept.keys.append(built.key)
        return built

    def report(self) -> Report:
        """Return the results of the chunk."""
        group, state = self.worker.source.number, self.worker.state
        rows = {}
        for split, kept in self.kept.items():
            if kept.characters:
                self.tally.characters[split] = histogram(kept.characters, CHARACTER_BINS)
            if kept.sizes:
                rows[split] = Rows(
                    np.array(kept.sizes, dtype=np.uint32),
                    np.array(kept.labels, dtype=np.uint8),
                    np.array(kept.keys, dtype=np.uint64),
                    np.full(len(kept.sizes), group, dtype=np.uint16),
                )
            if kept.members:
                members = np.array(kept.members)
                np.frombuffer(state.shown[split], dtype=np.uint8)[members] = 1
                count_seconds(state.index, members, self.tally.seconds)
        return Report(self.tally, rows, state.test_texts)

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
            # Between tokens JSON may have carriage returns, which text files take for line ends.
            row = b'"row":' + line.strip().replace(b"\r", b" ")
        self.parts["rejected"].append(head[:-1] + b"," + row + b"}\n")


def blank_out(lines: Lines, wanted: np.ndarray) -> Lines:
    """Return the chunk with blank lines for the rows that are not wanted.

    Args:
        lines: The chunk.
        wanted: For each row from its first on whether it is wanted.
    """
    chosen = iter(wanted.tolist())
    kept = [
        line if line and not line.isspace() and next(chosen) else b""
        for line in (lines[place] for place in range(len(lines)))
    ]
    ends = np.cumsum([len(line) + 1 for line in kept]) - 1
    return Lines(b"\n".join(kept), ends.tolist(), lines.plain, lines.ascii)
