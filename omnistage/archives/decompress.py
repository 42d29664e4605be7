"""A compressed file as a stream of its decompressed bytes."""

import bz2
import io
import lzma
from collections.abc import Callable
from typing import Any, BinaryIO, Literal, cast

import zstandard
from zlib_ng import zlib_ng

ZlibError = cast("type[Exception]", zlib_ng.error)  # whose stub takes it for an exception itself
Compression = Literal["gz", "zst", "bz2", "xz"]
_MAGIC: dict[bytes, Compression] = {
    b"\x1f\x8b": "gz",
    b"\x28\xb5\x2f\xfd": "zst",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
}
_XZ_MEMORY = 1 << 30  # bytes; the header of a hostile file may ask for more
_CHUNK = 1 << 18  # bytes read at a time
_STEP = 1 << 20  # bytes decompressed at a time
_ZST_CHUNK = 1 << 13  # bytes; zstd's own blocks expand at most 32,768 times: 256 MB
_ZST_WINDOW = 1 << 31  # what `zstd --long=31` writes; the default refuses above 128 MB


def compression(head: bytes) -> Compression | None:
    """Return how a file is compressed by its first bytes."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


class Decompressed(io.RawIOBase):
    """The decompressed bytes of a file, forward only, in bounded memory.

    Files made of several members one after another (``pigz``, ``cat a.gz b.gz``) are read through.

    Args:
        file: The compressed file.
        kind: How it is compressed.
        check: Called with the bytes read so far whenever some more are read; may raise.

    Raises:
        EOFError: While reading, if it ends within a member.
        ValueError: While reading, if its bytes are damaged.
    """

    def __init__(
        self, file: BinaryIO, kind: Compression, check: Callable[[int], None] | None = None
    ) -> None:
        self._file = file
        self._check = check
        self._kind: Compression = kind
        self._ready = memoryview(b"")
        self._position = 0
        self._done = False
        if kind == "zst":
            decoder = zstandard.ZstdDecompressor(max_window_size=_ZST_WINDOW)
            self._zst: Any = _WholeZst(file, decoder)
        else:
            self._decoder = _decoder(kind)
            self._pending = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return how many decompressed bytes were read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move forward, by reading on; to the end at most.

        Raises:
            io.UnsupportedOperation: For a position that was passed.
        """
        if whence != io.SEEK_SET or offset < self._position:
            raise io.UnsupportedOperation("compressed data are read forward only")
        while self._position < offset and self.block(min(_STEP, offset - self._position)):
            pass
        return self._position

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Read some bytes; 0 at the end."""
        data = self.block(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def block(self, most: int = _STEP) -> memoryview:
        """Read what comes next without copying it: up to ``most`` bytes, none at the end."""
        if not self._ready and not self._done:
            self._ready = memoryview(self._more())
        piece, self._ready = self._ready[:most], self._ready[most:]
        self._position += len(piece)
        if self._check:
            self._check(self._position)
        return piece

    def read(self, size: int = -1, /) -> bytes:
        """Read ``size`` bytes, fewer only at the end; without a size, all of them."""
        pieces = []
        while size:
            piece = self.block(_STEP if size < 0 else size)
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece) if size > 0 else 0
        return b"".join(pieces)

    def _more(self) -> bytes:
        if self._kind == "zst":
            data = self._zst.read()
            self._done = not data
            return data
        try:
            return self._inflate()
        except (ZlibError, lzma.LZMAError, OSError) as e:
            if isinstance(e, OSError) and e.errno is not None:
                raise
            raise ValueError(f"{self._kind} data: {e}") from e

    def _inflate(self) -> bytes:
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data + (self._file.read(_CHUNK) or b"")
                rest = rest.lstrip(b"\0")  # padding after the last member is allowed
                if not rest:
                    self._done = True
                    return b""
                self._decoder = _decoder(self._kind)
                self._pending = rest
            if not self._pending and _hungry(self._decoder):
                self._pending = self._file.read(_CHUNK)
                if not self._pending:
                    raise EOFError(f"the {self._kind} data ends too early")
            data = self._decoder.decompress(self._pending, _STEP)
            self._pending = getattr(self._decoder, "unconsumed_tail", b"")
            if data:
                return data


class _WholeZst:
    """Zstandard frames, told apart from a stream cut in the middle of one."""

    def __init__(self, file: BinaryIO, decoder: zstandard.ZstdDecompressor) -> None:
        self._file = file
        self._decoder = decoder
        self._frame = decoder.decompressobj()
        self._pending = b""
        self._fresh = True

    def read(self) -> bytes:
        while True:
            if self._frame.eof:
                self._pending = self._frame.unused_data
                self._frame = self._decoder.decompressobj()
                self._fresh = True
            chunk = self._pending or self._file.read(_ZST_CHUNK)
            self._pending = b""
            if not chunk:
                if self._fresh:
                    return b""
                raise EOFError("the zst data ends too early")
            self._fresh = False
            try:
                data = self._frame.decompress(chunk)
            except zstandard.ZstdError as e:
                raise ValueError(f"zst data: {e}") from e
            if data:
                return data


def _decoder(kind: Compression) -> Any:
    if kind == "gz":
        return zlib_ng.decompressobj(wbits=31)
    if kind == "bz2":
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


def _hungry(decoder: Any) -> bool:
    """Whether a decoder wants input; zlib's has no such flag and returns what it did not use."""
    return getattr(decoder, "needs_input", True)
