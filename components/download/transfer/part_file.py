"""A file while it is being fetched: its bytes, and how far each segment of it has come.

The counters live in a small file beside it that is mapped into memory. They are raised after the
bytes were written, so they survive a kill of the process at any point, and the processes that hash
and index read the file while it grows by looking at the same counters.

Slots, 8 bytes each, little endian: magic, size, segment size, state, source tag, boot tag, two
spare, then the bytes that each segment has.
"""

import hashlib
import mmap
import os
import time
from pathlib import Path
from typing import cast

from omnistage.archives.file_views import View
from omnistage.files import boot_id

SEGMENT = 32 << 20  # bytes; each connection fetches one at a time
_MAGIC = 0x31_54_52_41_50_53_4D_4F
_UNKNOWN = (1 << 64) - 1
_SIZE, _SEGMENT, _STATE, _SOURCE, _BOOT, _HAVE = 1, 2, 3, 4, 5, 8
_RUNNING, _WHOLE, _GIVEN_UP = 0, 1, 2


class GivenUpError(Exception):
    """The file that was being followed is fetched anew from its first byte."""


def state_path(path: Path) -> Path:
    """Return the counters' file."""
    return path.with_name(path.name + ".state")


class PartFile:
    """The writer's side; several threads may write different segments.

    Args:
        path: The file of bytes, opened again when it is a part of the same source's bytes.
        size: Bytes of the whole, or None when the source does not say.
        source: What identifies the bytes (a hash, an entity tag); another one starts anew.
        trusted: Whether a stated hash will be checked. Without one, bytes from before a reboot
            are not kept: the counters may have reached the disk when the bytes did not.
        segment: Bytes of a segment; 0 makes one segment of the whole.
    """

    def __init__(
        self, path: Path, size: int | None, source: str, trusted: bool, segment: int = SEGMENT
    ) -> None:
        self.path = path
        self._open(size, source, trusted, segment)

    def _open(self, size: int | None, source: str, trusted: bool, segment: int) -> None:
        self._identity = (source, trusted)
        step = segment if segment and size is not None else _UNKNOWN
        segments = 1 if step == _UNKNOWN or not size else -(-size // step)
        boot = 0 if trusted else _tag(boot_id())
        known = _UNKNOWN if size is None else size
        head = [_MAGIC, known, step, _RUNNING, _tag(source), boot, 0, 0]
        state = state_path(self.path)
        length = 8 * (_HAVE + segments)
        kept = state.is_file() and state.stat().st_size == length and self.path.is_file()
        if not kept:
            self.path.unlink(missing_ok=True)
            new = state.with_suffix(".new")
            new.write_bytes(_packed(head) + bytes(8 * segments))
            new.replace(state)
        self._slots = _map(state, writable=True)
        if kept and (
            list(self._slots[:3]) != head[:3] or list(self._slots[_SOURCE:6]) != head[_SOURCE:6]
        ):
            self.give_up()
            state.unlink()
            return self._open(size, source, trusted, segment)
        self._slots[_STATE] = _RUNNING
        self.segments = segments
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        return None

    @property
    def size(self) -> int | None:
        """Bytes of the whole, when known."""
        size = self._slots[_SIZE]
        return None if size == _UNKNOWN else size

    @property
    def have(self) -> int:
        """Bytes written."""
        return sum(self._slots[_HAVE:])

    @property
    def step(self) -> int:
        """Bytes of a segment; 0 where one segment is the whole."""
        step = self._slots[_SEGMENT]
        return 0 if step == _UNKNOWN else step

    def complete(self, segment: int) -> bool:
        """Whether a segment has all its bytes."""
        at, end = self.span(segment)
        return end is not None and at >= end

    def span(self, segment: int) -> tuple[int, int | None]:
        """Return the first missing byte of a segment and its end, None when it is not known."""
        step = self._slots[_SEGMENT]
        start = 0 if step == _UNKNOWN else segment * step
        end = self.size if step == _UNKNOWN else min(start + step, self._slots[_SIZE])
        return start + self._slots[_HAVE + segment], end

    def write(self, segment: int, data: bytes) -> None:
        """Append bytes to a segment."""
        view = memoryview(data)
        while view:
            start, _ = self.span(segment)
            count = os.pwrite(self._file, view, start)
            self._slots[_HAVE + segment] += count
            view = view[count:]

    def adopt(self) -> None:
        """Count all bytes of ``path`` as written: something else has put the whole file there."""
        os.close(self._file)
        self._file = os.open(self.path, os.O_RDWR)
        left = os.fstat(self._file).st_size
        step = self._slots[_SEGMENT]
        for segment in range(self.segments):
            self._slots[_HAVE + segment] = min(step, left)
            left -= self._slots[_HAVE + segment]

    def whole(self) -> None:
        """Say that no more bytes come."""
        if self.size is None:
            self._slots[_SIZE] = self.have
        self._slots[_STATE] = _WHOLE

    def give_up(self) -> None:
        """Tell the followers that these bytes are not going on."""
        self._slots[_STATE] = _GIVEN_UP

    def restart(self, size: int | None, segment: int = SEGMENT) -> None:
        """Throw the bytes away and begin anew."""
        self.give_up()
        os.close(self._file)
        self.path.unlink(missing_ok=True)
        state_path(self.path).unlink(missing_ok=True)
        self._open(size, *self._identity, segment)

    def move_to(self, final: Path) -> None:
        """Give the whole, verified file its final name."""
        os.close(self._file)
        final.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(final)
        state_path(self.path).unlink()


class GrowingFile(View):
    """The reader's side: a file whose reads wait for bytes that are still to come.

    Args:
        path: The file of bytes.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._slots = _map(state_path(path), writable=False)
            self._file = os.open(path, os.O_RDONLY)
        except FileNotFoundError as e:
            raise GivenUpError from e
        self._parent = os.getppid()

    def size(self) -> int:
        """Return the size, waiting for it where the source does not say it."""
        pause = 0.001
        while self._slots[_SIZE] == _UNKNOWN:
            pause = self._wait(pause)
        return self._slots[_SIZE]

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Read what there is at the position, at least a byte before the end of the file."""
        pause = 0.001
        while True:
            whole = self._slots[_STATE] == _WHOLE  # looked at before the counter, see there
            room = min(len(buffer), self._ready())
            if room > 0:
                count = os.preadv(self._file, [memoryview(buffer)[:room]], self._position)
                self._position += count
                return count
            if self._position >= self._slots[_SIZE] or whole or not len(buffer):
                return 0
            pause = self._wait(pause)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            os.close(self._file)
        super().close()

    def _ready(self) -> int:
        """Bytes from the position on that have been written without a gap."""
        step = self._slots[_SEGMENT]
        segment = 0 if step == _UNKNOWN else self._position // step
        if _HAVE + segment >= len(self._slots):
            return 0
        start = 0 if step == _UNKNOWN else segment * step
        return start + self._slots[_HAVE + segment] - self._position

    def _wait(self, pause: float) -> float:
        if self._slots[_STATE] == _GIVEN_UP:
            raise GivenUpError
        if os.getppid() != self._parent:
            raise SystemExit(1)  # the fetching process was killed: nobody writes or listens
        time.sleep(pause)
        return min(pause * 2, 0.05)


def _map(path: Path, writable: bool) -> memoryview:
    with path.open("r+b" if writable else "rb") as f:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        return cast("memoryview", memoryview(mmap.mmap(f.fileno(), 0, access=access)).cast("Q"))


def _packed(values: list[int]) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


def _tag(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
