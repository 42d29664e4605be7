"""A row that has become a record, and those that did before their split was known."""

import os
import pickle
from array import array
from dataclasses import dataclass
from pathlib import Path

from components.rewrite_paths.convert.tally import Key
from components.rewrite_paths.draft import Draft, Form
from components.rewrite_paths.media.finder import Media
from components.rewrite_paths.sources.files import Source


@dataclass(slots=True)
class ConvertedRow:
    """A record, where it goes and what is counted of it."""

    split: Form
    line: bytes
    count: Key
    characters: int
    members: list[int]
    label: int
    key: int
    dropped: tuple[str, ...]
    prompt: bytes
    """Digest of the prompt of a record that shows nothing."""


@dataclass(slots=True)
class Reading:
    """What a row says, before it is known that it can become a record."""

    draft: Draft
    media: Media
    members: list[int]
    prompt: bytes
    """As that of :class:`ConvertedRow`."""


class ConvertedRows:
    """Rows that were converted before it was known to which split they go, in a file.

    Args:
        path: Where they are written to; nothing is kept without it.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = path.open("w+b") if path else None
        self._places: dict[tuple[Path, Form], array[int]] = {}

    def put(self, source: Source, number: int, row: ConvertedRow) -> None:
        """Keep a row; those of a source in the order of their numbers."""
        assert self._file
        places = self._places.setdefault((source.path, source.split), array("Q"))
        places.extend([0] * (number - len(places)))
        data = pickle.dumps(row)
        # The place of the row's end, which is not 0: the length comes last.
        self._file.write(data + len(data).to_bytes(4))
        places.append(self._file.tell())

    def flush(self) -> None:
        """Let processes that are forked from now on read what was kept."""
        if self._file:
            self._file.flush()

    def get(self, source: Source, number: int) -> ConvertedRow | None:
        """Return the row of a line if it was kept."""
        places = self._places.get((source.path, source.split)) if self._file else None
        if places is None or number >= len(places) or not places[number]:
            return None
        assert self._file
        handle, end = self._file.fileno(), places[number] - 4
        size = int.from_bytes(os.pread(handle, 4, end))
        return pickle.loads(os.pread(handle, size, end - size))
