"""Decides which media become test media, so that no group of rows stands on two sides."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from math import inf

import numpy as np

from components.rewrite_paths.config import GroupSplit
from components.rewrite_paths.convert.chunk import blank_out
from components.rewrite_paths.convert.fast_path import FastPathRows, Templates
from components.rewrite_paths.convert.processes import cut, read_chunk, rows_in
from components.rewrite_paths.convert.row import ConversionState, RecordFilters, RowConverter
from components.rewrite_paths.draft import RowError
from components.rewrite_paths.media.index import MemberIndex
from components.rewrite_paths.sources.files import Source
from components.rewrite_paths.sources.lines import Lines, read_lines


def plan_split(
    sources: Sequence[Source],
    others: Sequence[Source],
    state: ConversionState,
    filters: RecordFilters,
    split: GroupSplit,
) -> tuple[bytes, int]:
    """Choose groups of media until their rows are the wished share of all rows.

    A group is what rows connect: two media belong together when a row shows both, when their bytes
    are the same, or by name or folder if the setting says so. Groups are taken in the order of a
    seeded hash, so that adding data changes little; one that would exceed the share is passed over.
    The smallest is taken if all would.

    Args:
        sources: Record files that test records may be taken from.
        others: The same files as another split reads them; their rows too hold groups together.
        state: Of the conversion that follows; its ``converted`` keeps the rows.
        filters: Of the conversion.
        split: The share, and what makes a group.

    Returns:
        For each member 1 if rows that show it become test records; and the threshold below which
        the digest of a prompt without media makes a test record.
    """
    index, grouping = state.index, _Grouping(state, filters)
    parents = _initial(index, split.by)
    rows = np.zeros(len(index), dtype=np.int64)
    for weight, files in ((1, sources), (0, others)):
        for members in chain.from_iterable(map(grouping.members, files)):
            rows[members[0]] += weight
            for other in members[1:]:
                _join(parents, members[0], other)
    state.converted.flush()
    roots = np.array([_root(parents, member) for member in range(len(index))], dtype=np.int64)
    counts = np.bincount(roots, weights=rows, minlength=len(index)) if len(index) else rows
    chosen = np.zeros(len(index), dtype=bool)
    left = split.test * rows.sum()
    groups = sorted(np.flatnonzero(counts), key=lambda r: _rank(index, int(r), state.seed))
    # A group that many rows connect must not become a test set many times the wished size.
    for root in groups:
        if counts[root] <= left:
            chosen[root] = True
            left -= counts[root]
    if groups and not chosen.any():
        chosen[min(groups, key=lambda r: counts[r])] = True
    to_test = chosen[roots].astype(np.uint8).tobytes() if len(index) else b""
    return to_test, int(split.test * 2**64)


class _Grouping:
    """Converts the rows of files for their own split, and tells what each shows.

    A record is kept, so that only rows that go to another split are converted again. Plain rows
    go by templates, which takes hardly any time.
    """

    def __init__(self, state: ConversionState, filters: RecordFilters) -> None:
        unmarked = memoryview(bytearray(max(1, len(state.index))))
        self.state = replace(state, test_marks=unmarked, sft_marks=unmarked)
        # Which records are wanted is seen when they are converted.
        self.filters = RecordFilters(False, (0, inf), (-inf, inf), False, filters.key)

    def members(self, source: Source) -> Iterator[Sequence[int]]:
        """Yield what each row of a file shows, for rows with media."""
        templates = Templates(RowConverter(source, self.state, self.filters, False))
        scratch = np.empty(max((c.size for c in cut(0, source.path)), default=0), dtype=bool)
        before = rows = 0
        for chunk in cut(0, source.path):
            lines = read_lines(read_chunk(source.path, chunk), scratch)
            if source.wanted is not None:
                lines, rows = blank_out(lines, source.wanted[rows:]), rows + rows_in(lines)
            yield from self._of_lines(lines, before, templates)
            before += len(lines)

    def _of_lines(self, lines: Lines, before: int, templates: Templates) -> Iterator[Sequence[int]]:
        at = 0
        while at < len(lines):
            if lines.plain and templates.current:
                run = FastPathRows()
                at = templates.convert(lines, at, before + 1, run)
                yield from ((member,) for member in run.members)
                if at == len(lines) or templates.switch(lines[at]):
                    continue
            line = lines[at]
            at += 1
            if line and not line.isspace():
                yield from self._of_row(line, before + at, templates, lines.plain)

    def _of_row(
        self, line: bytes, number: int, templates: Templates, plain: bool
    ) -> Iterator[Sequence[int]]:
        worker = templates.worker
        with contextlib.suppress(RowError):  # counted and reported when the row is converted
            reading = worker.read(line, worker.source.split)
            if reading.members:
                yield reading.members
            made = worker.finish(reading, number, worker.source.split)
            self.state.converted.put(worker.source, number, made)
            if plain:
                templates.learn(line, number, made)


def _initial(index: MemberIndex, by: str) -> list[int]:
    parents = list(index.first_duplicate)
    first: dict[str | int, int] = {}
    for member in range(len(index)):
        if by == "stem":
            name = index.name(member)
            _join(parents, member, first.setdefault(name.rpartition(".")[0] or name, member))
        elif by == "folder":
            _join(parents, member, first.setdefault(index.folder_number(member), member))
    return parents


def _root(parents: list[int], member: int) -> int:
    while parents[member] != member:
        parents[member] = parents[parents[member]]
        member = parents[member]
    return member


def _join(parents: list[int], a: int, b: int) -> None:
    a, b = _root(parents, a), _root(parents, b)
    parents[max(a, b)] = min(a, b)


def _rank(index: MemberIndex, root: int, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{index.path(root)}".encode(), digest_size=16).digest()
