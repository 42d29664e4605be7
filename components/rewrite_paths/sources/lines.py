"""The lines of a record file, or of a chunk of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a chunk, not taken apart.

    Attributes:
        text: The chunk.
        ends: Where each line ends, its line end not included.
        plain: Whether the text is UTF-8 without control characters, so that templates may be tried.
        ascii: Whether each byte is a character.
    """

    text: bytes
    ends: list[int]
    plain: bool
    ascii: bool

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, place: int) -> bytes:
        start = self.ends[place - 1] + 1 if place else 0
        return self.text[start : self.ends[place]]


def rows_of(path: Path) -> Iterator[bytes]:
    """Yield the rows of a record file: its lines that are not blank."""
    with path.open("rb") as f:
        for number, line in enumerate(f):
            if number == 0:
                line = line.removeprefix(BYTE_ORDER_MARK)
            if line and not line.isspace():
                yield line


def read_lines(text: bytes, scratch: np.ndarray) -> Lines:
    """Find the lines of a chunk, and whether templates may be tried on them.

    Args:
        text: The chunk.
        scratch: Room for as many truth values as it has bytes; memory of its own for each chunk
            would take longer to get than to fill.
    """
    ends, find = [], text.find
    end = find(b"\n")
    while end >= 0:
        ends.append(end)
        end = find(b"\n", end + 1)
    # As signed numbers, control characters and what is not ASCII both are less than a space.
    codes, found = np.frombuffer(text, dtype=np.int8), scratch[: len(text)]
    only_ascii = plain = np.count_nonzero(np.less(codes, 32, out=found)) == len(ends)
    if not plain and np.count_nonzero(np.less(codes.view(np.uint8), 32, out=found)) == len(ends):
        try:
            text.decode()
            plain = True
        except UnicodeDecodeError:
            plain = False
    if text and not text.endswith(b"\n"):
        ends.append(len(text))
    return Lines(text, ends, plain, only_ascii)
