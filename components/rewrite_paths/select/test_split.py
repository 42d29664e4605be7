"""Decides which media become test media, so that no group of rows stands on two sides."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from components.rewrite_paths.config import GroupSplit
from components.rewrite_paths.convert.row import parse
from components.rewrite_paths.draft import RowError
from components.rewrite_paths.formats.readers import read_row
from components.rewrite_paths.media.finder import MediaFinder
from components.rewrite_paths.media.index import MemberIndex
from components.rewrite_paths.sources.files import Source
from components.rewrite_paths.sources.lines import rows_of


def plan_split(
    sources: Sequence[Source],
    others: Sequence[Source],
    finder: MediaFinder,
    split: GroupSplit,
    seed: int,
) -> tuple[bytes, int]:
    """Choose groups of media until their rows are the wished share of all rows.

    A group is what rows connect: two media belong together when a row shows both, when their bytes
    are the same, or by name or folder if the setting says so. Groups are taken in the order of a
    seeded hash, so that adding data changes little; one that would exceed the share is passed over.
    The smallest is taken if all would.

    Args:
        sources: Record files that test records may be taken from.
        others: The same files as another split reads them; their rows too hold groups together.
        finder: Finds media.
        split: The share, and what makes a group.
        seed: Of the hash.

    Returns:
        For each member 1 if rows that show it become test records; and the threshold below which
        the digest of a prompt without media makes a test record.
    """
    index = finder.index
    parents = _initial(index, split.by)
    rows = np.zeros(len(index), dtype=np.int64)
    for weight, files in ((1, sources), (0, others)):
        for members in _members_of_rows(files, finder):
            rows[members[0]] += weight
            for other in members[1:]:
                _join(parents, members[0], other)
    roots = np.array([_root(parents, member) for member in range(len(index))], dtype=np.int64)
    counts = np.bincount(roots, weights=rows, minlength=len(index)) if len(index) else rows
    chosen = np.zeros(len(index), dtype=bool)
    left = split.test * rows.sum()
    groups = sorted(np.flatnonzero(counts), key=lambda r: _rank(index, int(r), seed))
    # A group that many rows connect must not become a test set many times the wished size.
    for root in groups:
        if counts[root] <= left:
            chosen[root] = True
            left -= counts[root]
    if groups and not chosen.any():
        chosen[min(groups, key=lambda r: counts[r])] = True
    to_test = chosen[roots].astype(np.uint8).tobytes() if len(index) else b""
    return to_test, int(split.test * 2**64)


def _members_of_rows(sources: Iterable[Source], finder: MediaFinder) -> Iterator[list[int]]:
    for source in sources:
        entry = source.entry
        for row, line in enumerate(rows_of(source.path)):
            if source.wanted is not None and not source.wanted[row]:
                continue
            try:
                draft = read_row(parse(line), entry.format, source.split, columns=entry.columns)
                members = finder.resolve_media(draft).all()
            except RowError:
                continue  # counted and reported when the row is converted
            if members:
                yield members


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
