"""One member of a zip: its local header, and its bytes.

A zip says everything twice, in its central directory and before each member. Python's zipfile
believes the one, other tools the other, so a zip where they differ is refused.
"""

import bz2
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

from zlib_ng import zlib_ng

from omnistage.archives.decompress import ZlibError

LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # APPNOTE.TXT 4.3.7
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED, _SIZES_FOLLOW = 1, 8  # bits of the flags
_ZIP64 = 1  # extra field with sizes of 8 bytes
_LARGE = 0xFFFFFFFF  # instead of a size that stands in the extra field


@dataclass(frozen=True)
class LocalHeader:
    """What stands before a member's bytes."""

    flags: int
    method: int
    crc: int
    packed: int
    size: int
    name: bytes
    length: int
    """Bytes of the header with name and extra fields."""

    def difference(self, info: zipfile.ZipInfo) -> str | None:
        """Return what the central directory says otherwise, or None."""
        named = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
        if self.name != named:
            return f"name ({self.name.decode(errors='replace')!r} before its bytes)"
        if self.method != info.compress_type:
            return "compression"
        if (self.flags ^ info.flag_bits) & _ENCRYPTED:
            return "encryption"
        said = (self.crc, self.packed, self.size)
        listed = (info.CRC, info.compress_size, info.file_size)
        if said != listed and not (self.flags & _SIZES_FOLLOW and said == (0, 0, 0)):
            return "size or checksum"
        return None


def local_header(file: BinaryIO, offset: int) -> LocalHeader:
    """Read the header at an offset.

    Raises:
        EOFError: If the file ends there.
        ValueError: If there is none.
    """
    file.seek(offset)
    head = _exactly(file, LOCAL_HEADER.size)
    signature, _, flags, method, _, _, crc, packed, size, name, extra = LOCAL_HEADER.unpack(head)
    if signature != _SIGNATURE:
        raise ValueError(f"there is no header at byte {offset}")
    names, extras = _exactly(file, name), _exactly(file, extra)
    if _LARGE in (packed, size):
        packed, size = _zip64_sizes(extras, packed, size)
    if flags & _SIZES_FOLLOW and packed == size == 0:
        crc = 0  # some writers put the checksum here and the sizes behind the bytes
    return LocalHeader(flags, method, crc, packed, size, names, len(head) + name + extra)


class ZipStream:
    """A member's bytes, decompressed.

    They are exactly as many as the directory says, have its checksum, and come from exactly as many
    compressed bytes as it says.

    Args:
        file: The zip.
        start: Where the compressed bytes begin.
        info: The member.
    """

    def __init__(self, file: BinaryIO, start: int, info: zipfile.ZipInfo) -> None:
        self._file, self._at, self._end = file, start, start + info.compress_size
        self._left = info.file_size
        self._crc, self._stated = 0, info.CRC
        self._decoder = decoder(info.compress_type)
        self._pending = b""

    def read(self, most: int) -> bytes:
        """Read some bytes; none at the end.

        Raises:
            EOFError: If the zip ends too early.
            ValueError: If the bytes are damaged or not as many as the directory says.
        """
        data = self._stored(most) if self._decoder is None else self._inflated(most)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("it has more bytes than the zip says")
        self._crc = zlib.crc32(data, self._crc)
        if not data and (self._left or self._pending or self._at != self._end):
            raise ValueError("its bytes are not as many as the zip says")
        if not data and self._crc != self._stated:
            raise ValueError("its checksum is wrong")
        return data

    def _stored(self, most: int) -> bytes:
        self._file.seek(self._at)
        data = self._file.read(min(most, self._end - self._at))
        if not data and self._at < self._end:
            raise EOFError("the zip ends too early")
        self._at += len(data)
        return data

    def _inflated(self, most: int) -> bytes:
        decode: Any = self._decoder
        try:
            while not decode.eof:
                if not self._pending and getattr(decode, "needs_input", True):
                    self._pending = self._stored(1 << 16)
                    if not self._pending:
                        raise ValueError("its compressed bytes end too early")
                data = decode.decompress(self._pending, most)
                self._pending = getattr(decode, "unconsumed_tail", b"")
                if data:
                    return data
        except (ZlibError, OSError) as e:
            raise ValueError(str(e)) from e
        self._pending = decode.unused_data
        return b""


def decoder(method: int) -> Any:
    """Return a decompressor for a method of :data:`STORED` (None), deflate or bzip2."""
    if method == STORED:
        return None
    return zlib_ng.decompressobj(-15) if method == DEFLATED else bz2.BZ2Decompressor()


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError("the zip ends too early")
    return data


def _zip64_sizes(extras: bytes, packed: int, size: int) -> tuple[int, int]:
    """Return compressed and uncompressed size; where both are large, the latter stands first."""
    while len(extras) >= 4:
        kind, length = struct.unpack_from("<2H", extras)
        if kind == _ZIP64:
            values = struct.unpack_from(f"<{length // 8}Q", extras, 4)
            size, values = (values[0], values[1:]) if size == _LARGE else (size, values)
            return (values[0] if packed == _LARGE else packed), size
        extras = extras[4 + length :]
    return packed, size
