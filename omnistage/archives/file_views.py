"""Files seen as other files: a range of one, several as one, one with bytes replaced."""

import errno
import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO


class Section(io.RawIOBase):
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
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in the range."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position in the range."""
        self._position = moved(offset, whence, self._position, self._size)
        return self._position

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Read from the position, to the end of the range at most."""
        count = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self.start + self._position)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class JoinedFiles(io.RawIOBase):
    """The files of a split archive as one, read only.

    Args:
        paths: The parts in order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [path.open("rb", buffering=0) for path in paths]
        self.starts = [0]
        for path in paths:
            self.starts.append(self.starts[-1] + path.stat().st_size)
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in the whole."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position in the whole."""
        self._position = moved(offset, whence, self._position, self.starts[-1])
        return self._position

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


def moved(offset: int, whence: int, position: int, size: int) -> int:
    """Return the position that a ``seek`` with these arguments leads to.

    Raises:
        OSError: If it lies before the beginning.
    """
    target = {io.SEEK_SET: 0, io.SEEK_CUR: position, io.SEEK_END: size}[whence] + offset
    if target < 0:
        raise OSError(errno.EINVAL, "negative seek position")
    return target
