"""Keeps the work of several processes in order without one waiting for another's work.

Chunks are numbered. A process claims the next one, says how many lines it has and learns the number
of its first line; when the chunk is converted it says how many bytes go to each file and learns
where they belong. Both answers depend only on the chunks before, so the files are the same
whatever the number of processes.
"""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.context import BaseContext
from typing import Protocol


class WriteOrder(Protocol):
    """Hands out chunks, line numbers and places in the output files."""

    def claim(self) -> int:
        """Return the number of the next chunk."""
        ...

    def first_line(self, chunk: int, lines: int, rows: int, new_file: bool) -> tuple[int, int]:
        """Return how many lines and rows come before a chunk in its file."""
        ...

    def places(self, chunk: int, sizes: Sequence[int], wait: bool) -> list[int] | None:
        """Return the offset in each output file that a chunk's bytes begin at.

        Args:
            chunk: Its number.
            sizes: Its bytes for each output file.
            wait: Whether to wait until the chunks before it have their places; if not, None is
                returned while they have not.
        """
        ...


class OneProcess:
    """The order of a process that works alone.

    Args:
        offsets: Where the output files end now.
    """

    def __init__(self, offsets: Sequence[int]) -> None:
        self.offsets = list(offsets)
        self._next = 0
        self._lines = 0
        self._rows = 0

    def claim(self) -> int:
        """Return the number of the next chunk."""
        self._next += 1
        return self._next - 1

    def first_line(self, chunk: int, lines: int, rows: int, new_file: bool) -> tuple[int, int]:
        """Return how many lines and rows come before a chunk in its file."""
        before = (0, 0) if new_file else (self._lines, self._rows)
        self._lines, self._rows = before[0] + lines, before[1] + rows
        return before

    def places(self, chunk: int, sizes: Sequence[int], wait: bool) -> list[int] | None:
        """Return the offset in each output file that a chunk's bytes begin at."""
        before = list(self.offsets)
        self.offsets = [a + b for a, b in zip(before, sizes, strict=True)]
        return before


class ManyProcesses:
    """The order that several processes keep.

    Args:
        offsets: Where the output files end now.
        context: How the processes are started.
    """

    def __init__(self, offsets: Sequence[int], context: BaseContext | None = None) -> None:
        context = context or multiprocessing.get_context()
        self._changed = context.Condition()
        # next chunk, chunk whose lines are counted next, chunk placed next, lines, rows
        self._state = context.Array("q", 5, lock=False)
        self._offsets = context.Array("q", list(offsets), lock=False)

    @property
    def offsets(self) -> list[int]:
        """Where the output files end now."""
        return list(self._offsets)

    def claim(self) -> int:
        """Return the number of the next chunk."""
        with self._changed:
            self._state[0] += 1
            return self._state[0] - 1

    def first_line(self, chunk: int, lines: int, rows: int, new_file: bool) -> tuple[int, int]:
        """Return how many lines and rows come before a chunk in its file."""
        with self._changed:
            self._changed.wait_for(lambda: self._state[1] == chunk)
            before = (0, 0) if new_file else (self._state[3], self._state[4])
            self._state[3], self._state[4] = before[0] + lines, before[1] + rows
            self._state[1] += 1
            self._changed.notify_all()
        return before

    def places(self, chunk: int, sizes: Sequence[int], wait: bool) -> list[int] | None:
        """Return the offset in each output file that a chunk's bytes begin at, or None."""
        with self._changed:
            if not wait and self._state[2] != chunk:
                return None
            self._changed.wait_for(lambda: self._state[2] == chunk)
            before = list(self._offsets)
            for number, size in enumerate(sizes):
                self._offsets[number] += size
            self._state[2] += 1
            self._changed.notify_all()
        return before
