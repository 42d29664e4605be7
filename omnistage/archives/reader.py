"""Read archives from anybody, member by member, and refuse what is hostile or damaged.

Python's own extraction filters were bypassable (CVE-2025-4517), so nothing here relies on them:
every member is checked before its bytes are used, and limits on count, size and compression ratio
hold while the archive is read, not after.
"""

import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

from omnistage.archives.decompress import Decompressed, compression
from omnistage.archives.file_views import Patched, Section
from omnistage.archives.names import decode_names, safe_member
from omnistage.archives.zip_member import ZipStream, local_header
from omnistage.errors import InputError

_RATIO_FLOOR = 100_000_000  # bytes; below it no ratio does harm, and empty files have odd ones
_LONGEST_EXTENSION = 1 << 20  # bytes of a tar extension header (long names, pax records)
_MOST_GLOBAL_RECORDS = 1000  # pax records for all members that follow; git writes one
_EXTENSION_TYPES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_TAR_TYPES = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a named pipe",
}
_ZIP_TYPES = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}
ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2}
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,
    EOFError,
    ValueError,
    OverflowError,
    IndexError,
    KeyError,
    RecursionError,
    zlib.error,
    struct.error,
)


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold at most."""

    max_members: int
    max_bytes: int
    """Uncompressed, of all members together; in a compressed tar their headers count too."""
    max_ratio: float
    """Uncompressed to compressed bytes."""


@dataclass(frozen=True)
class Member:
    """A file in an archive, to be read before the next one is asked for."""

    archive: str
    name: str
    """Safe and with ``/`` between its components."""
    size: int
    """Bytes, uncompressed."""
    offset: int
    """Where its bytes begin in the (decompressed) tar, or its local header in the zip."""
    stream: "Section | ZipStream | _Next"
    plain: Section | None
    """The bytes as a seekable file, where they lie in the archive uncompressed."""

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes, about a megabyte at a time.

        Raises:
            InputError: If they are damaged or fewer than the archive says.
        """
        left = self.size
        with archive_errors(self.archive, self.name):
            while chunk := self.stream.read(1 << 20):
                left -= len(chunk)
                yield chunk
            if left:
                raise EOFError(f"{left} bytes are missing")


class _Next:
    """The next bytes of decompressed data, not copied."""

    def __init__(self, file: Decompressed, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, most: int) -> memoryview:
        """Read some bytes; none at the end."""
        piece = self._file.block(min(most, self._left)) if self._left else memoryview(b"")
        self._left -= len(piece)
        return piece


@contextmanager
def archive_errors(where: str, member: str | None = None) -> Iterator[None]:
    """Turn what the standard library raises on broken archives into one clear message.

    Raises:
        InputError: Naming the archive, and the member where one was being read.
    """
    try:
        yield
    except _BROKEN as e:
        at = f" at member {member!r}" if member else ""
        text = " ".join(str(e).split()) or type(e).__name__
        raise InputError(f"{where}: truncated or damaged{at}: {text}; fetch it again") from e


def read_members(
    file: BinaryIO,
    size: int,
    where: str,
    limits: ArchiveLimits,
    encoding: str | None = None,
    starts: Sequence[int] = (0,),
) -> Iterator[Member]:
    """Yield the members of an archive, in its order, each checked; folders are passed over.

    What kind of archive it is, its first bytes say and not its name.

    Args:
        file: The archive, seekable.
        size: Its bytes.
        where: Its name, for messages.
        limits: What it may hold.
        encoding: Of names that do not say theirs; None guesses.
        starts: Where the parts of a spanned zip begin.

    Raises:
        InputError: If it is hostile, damaged, truncated, encrypted or above a limit; the message
            names archive and member.
    """
    reader = _Reader(where, size, limits, encoding)
    head = file.read(512)
    file.seek(0)
    packed = compression(head)
    with archive_errors(where):
        if head[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"):
            yield from reader.zip(file, starts)
        elif packed:
            yield from reader.tar(Decompressed(file, packed, reader.check_inflated))
        elif head[257:262] == b"ustar" or (len(head) == 512 and not any(head)):
            yield from reader.tar(file)
        elif not size:
            raise InputError(f"{where}: empty, not an archive; fetch it again")
        else:
            raise InputError(
                f"{where}: not an archive (neither tar, tar.gz, tar.zst, tar.bz2, tar.xz nor zip); "
                f"it begins with {head[:16]!r}"
            )


class _Header(tarfile.TarInfo):
    """A tar header that says so when it is broken, where tarfile would see the archive's end."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENSION_TYPES and header.size > _LONGEST_EXTENSION:
            raise tarfile.ReadError(f"an extension header of {header.size} bytes")
        return header

    @classmethod
    def fromtarfile(cls, tarfile):
        try:
            header = super().fromtarfile(tarfile)
        except _HEADER_ERROR as e:
            if type(e).__name__ == "EOFHeaderError":
                raise
            raise _READ_ERROR(f"no valid header where one should be ({e})") from e
        if header.size < 0:
            raise _READ_ERROR(f"{header.name!r} has a negative size")
        return header


_HEADER_ERROR = tarfile.HeaderError
_READ_ERROR = tarfile.ReadError


class _Reader:
    """The checks that tar and zip share."""

    def __init__(self, where: str, size: int, limits: ArchiveLimits, encoding: str | None) -> None:
        self.where = where
        self.size = size
        self.limits = limits
        self.encoding = encoding
        self.last: str | None = None
        self._ended = False
        self._names: set[str] = set()
        self._bytes = 0

    def tar(self, file: "BinaryIO | Decompressed") -> Iterator[Member]:
        # Not in tarfile's mode for streams, which copies every byte several times.
        tar = tarfile.open(  # noqa: SIM115  # nothing to close: the file is the caller's
            fileobj=cast(IO[bytes], file),
            mode="r:",
            tarinfo=_Header,
            encoding="utf-8",
            errors="surrogateescape",
        )
        while (header := tar.next()) is not None:
            tar.members = []  # pyright: ignore[reportAttributeAccessIssue]  # or the headers of a million members stay in memory
            if len(tar.pax_headers) > _MOST_GLOBAL_RECORDS:
                raise _READ_ERROR("too many global pax records")
            name = self._decode([header.name.encode("utf-8", "surrogateescape")])[0]
            if kind := _TAR_TYPES.get(header.type):
                raise self._refuse(name, f"it is {kind}")
            safe = self._check(name, folder=header.isdir())
            if header.isdir():
                continue
            if not header.isreg() or header.issparse():
                raise self._refuse(name, f"its type {header.type!r} is not a plain file")
            self._count(safe, header.size)
            at, size = header.offset_data, header.size
            if isinstance(file, Decompressed):
                yield Member(self.where, safe, size, at, _Next(file, size), None)
            else:
                plain = Section(file, at, size)
                yield Member(self.where, safe, size, at, plain, plain)
        if isinstance(file, Decompressed):
            self._ended = True
            while file.read(1 << 20):  # so that the checksum at the very end is checked
                pass

    def check_inflated(self, count: int) -> None:
        """Refuse an archive of which too much comes out, whether members or headers.

        Args:
            count: Bytes that came out of the decompressor so far.
        """
        ratio = max(_RATIO_FLOOR, self.limits.max_ratio * self.size)
        if count <= min(ratio, self.limits.max_bytes):
            return
        if self._ended:
            raise InputError(
                f"{self.where}: after its last member, {self.last!r}, come more than "
                f"{count - self._bytes} bytes of nothing; it is not a data set"
            )
        limit = "max_ratio" if count > ratio else "max_bytes"
        after = f"after member {self.last!r}" if self.last else "before its first member"
        raise InputError(
            f"{self.where}: refused {after}: {count} bytes, headers included, come out of "
            f"{self.size} compressed ones; raise limits.{limit} if you trust it"
        )

    def zip(self, file: BinaryIO, starts: Sequence[int]) -> Iterator[Member]:
        with zipfile.ZipFile(_one_disk(file, starts)) as archive:
            infos = archive.infolist()
            if len(starts) > 1:
                _join_disks(infos, starts, archive.start_dir)
            offsets = sorted(info.header_offset for info in infos)
            ends = dict(zip(offsets, [*offsets[1:], archive.start_dir], strict=True))
            for info, name in zip(infos, self._zip_names(infos), strict=True):
                if kind := _ZIP_TYPES.get(stat.S_IFMT(info.external_attr >> 16)):
                    raise self._refuse(name, f"it is {kind}")
                folder = name.endswith(("/", "\\"))
                safe = self._check(name, folder)
                if folder:
                    continue
                if info.flag_bits & 1:
                    raise self._refuse(name, "it is encrypted; pack it again without a password")
                if info.compress_type not in ZIP_METHODS:
                    raise self._refuse(
                        name,
                        f"compression method {info.compress_type} is not supported; pack it with "
                        "deflate",
                    )
                self._count(safe, info.file_size)
                local = local_header(file, info.header_offset)
                if difference := local.difference(info):
                    raise self._refuse(name, f"the zip says two things of its {difference}")
                start = info.header_offset + local.length
                if start + info.compress_size > ends[info.header_offset]:
                    raise self._refuse(name, "its bytes overlap with what follows them")
                stream = ZipStream(file, start, info)
                stored = info.compress_type == zipfile.ZIP_STORED
                plain = Section(file, start, info.file_size) if stored else None
                yield Member(self.where, safe, info.file_size, info.header_offset, stream, plain)

    def _zip_names(self, infos: list[zipfile.ZipInfo]) -> list[str]:
        """Names as the writer meant them; zipfile takes all that are not UTF-8 for cp437."""
        legacy = [i for i in infos if not i.flag_bits & 0x800]
        decoded = self._decode([i.orig_filename.encode("cp437") for i in legacy])
        names = {id(i): name for i, name in zip(legacy, decoded, strict=True)}
        return [names.get(id(i), i.orig_filename) for i in infos]

    def _decode(self, raws: list[bytes]) -> list[str]:
        try:
            return decode_names(raws, self.encoding)
        except (ValueError, LookupError) as e:
            raise InputError(
                f"{self.where}: a member's name is not {self.encoding}: {e}; set "
                "member_encoding to the right one"
            ) from e

    def _check(self, name: str, folder: bool) -> str:
        try:
            return safe_member(name)
        except ValueError as e:
            if folder and not name.replace("\\", "/").strip("./"):
                return ""  # the folder itself, "./", which many tars begin with
            raise self._refuse(name, str(e)) from e

    def _count(self, name: str, size: int) -> None:
        if name in self._names:
            raise self._refuse(name, "a member of this name came before")
        self._names.add(name)
        self.last = name
        self._bytes += size
        most = self.limits
        if len(self._names) > most.max_members:
            problem, limit = f"the archive has more than {most.max_members} members", "max_members"
        elif self._bytes > most.max_bytes:
            problem, limit = f"the members have more than {most.max_bytes} bytes", "max_bytes"
        elif self._bytes > max(_RATIO_FLOOR, most.max_ratio * self.size):
            problem = f"the members are over {most.max_ratio:g} times as large as the archive"
            limit = "max_ratio"
        else:
            return
        raise self._refuse(name, f"{problem}; raise limits.{limit} if you trust it")

    def _refuse(self, name: str, reason: str) -> InputError:
        return InputError(f"{self.where}: member {name!r} is refused: {reason}")


def _join_disks(infos: Sequence[zipfile.ZipInfo], starts: Sequence[int], end: int) -> None:
    """Make the offsets of a spanned zip, each within its disk, those of the joined file."""
    base = max(s for s in starts if s <= max(end, 0))
    for info in infos:
        info.header_offset += starts[info.volume] - base


def _one_disk(file: BinaryIO, starts: Sequence[int]) -> BinaryIO:
    """Return a spanned zip as zipfile wants it: the zip64 locator says one disk."""
    if len(starts) == 1:
        return file
    end = file.seek(0, io.SEEK_END)
    tail_at = max(0, end - (1 << 16) - 22 - 20)
    file.seek(tail_at)
    tail = file.read()
    locator = tail.rfind(b"PK\x06\x07")
    record = tail.rfind(b"PK\x05\x06")
    if locator < 0 or locator + 20 != record:
        return file
    patched = struct.pack("<L", 1)
    return cast(
        BinaryIO,
        Patched(
            file, {tail_at + locator + 16: patched, tail_at + locator + 4: struct.pack("<L", 0)}
        ),
    )
