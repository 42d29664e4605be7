"""Files seen as other files: a range of one, several as one, one with bytes replaced."""

import errno
import io
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO


class View(io.RawIOBase):
    """Something to read at any position: what the views of this module, and others, share."""

    _position = 0

    @abstractmethod
    def size(self) -> int:
        """Return the bytes there are in all."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move; the size is asked for only where the place is relative to the end.

        Raises:
            OSError: If the place lies before the beginning.
        """
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        position = offset + (self.size() if start is None else start)
        if position < 0:
            raise OSError(errno.EINVAL, "negative seek position")
        self._position = position
        return position


class Section(View):
    """A range of a file as a file of its own, read only.

    Args:
        file: The file, seekable.
        start: First byte of the range.
        size: Bytes in it.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file = file
        self.start = start
        self._size = size

    def size(self) -> int:
        """Return the bytes of the range."""
        return self._size

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Read from the position, to the end of the range at most."""
        count = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self.start + self._position)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class JoinedFiles(View):
    """The files of a split archive as one, read only.

    Args:
        paths: The parts in order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [path.open("rb", buffering=0) for path in paths]
        self.starts = [0]
        for path in paths:
            self.starts.append(self.starts[-1] + path.stat().st_size)

    def size(self) -> int:
        """Return the bytes of the whole."""
        return self.starts[-1]

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Read from the part that holds the position."""
        for number, file in enumerate(self._files):
            if self._position < self.starts[number + 1]:
                file.seek(self._position - self.starts[number])
                room = min(len(buffer), self.starts[number + 1] - self._position)
                count = file.readinto(memoryview(buffer)[:room]) or 0
                self._position += count
                return count
        return 0

    def close(self) -> None:
        """Close the parts."""
        for file in self._files:
            file.close()
        super().close()


class Patched(io.RawIOBase):
    """A file with a few bytes replaced.

    Args:
        file: The file, seekable.
        patches: Offset to the bytes that stand there instead.
    """

    def __init__(self, file: BinaryIO, patches: dict[int, bytes]) -> None:
        self._file = file
        self._patches = patches

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the file's position."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move the file."""
        return self._file.seek(offset, whence)

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Read, with the patches laid over."""
        start = self._file.tell()
        data = bytearray(self._file.read(len(buffer)))
        for offset, patch in self._patches.items():
            for at, value in enumerate(patch, offset - start):
                if 0 <= at < len(data):
                    data[at] = value
        buffer[: len(data)] = data
        return len(data)
