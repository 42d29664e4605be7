"""Put the media of a data set where the index wants them: members of an archive, or loose files.

The index says where each member's bytes are, so no archive is parsed a second time, and a plain
tar or a zip can be cut into slices that several processes extract side by side. What is written is
what was checked: each file's sha256 is compared with the index.
"""

import fcntl
import hashlib
import io
import os
import queue
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from omnistage.archives.decompress import Decompressed, ZlibError, compression
from omnistage.archives.file_views import JoinedFiles
from omnistage.archives.zip_member import LOCAL_HEADER, decoder
from omnistage.errors import InputError, machine_errors
from omnistage.workers.loop import serve

_BLOCK = 1 << 20
_TAR_BLOCK = 1 << 18
_FICLONE = 0x40049409  # ioctl of Linux: share the blocks of another file until one is written to
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]|(?:^|/)\.{0,2}(?:/|$)")
"""Control characters, an absolute path, and components that are empty, ``.`` or ``..``."""


def safe_index_path(path: str) -> bool:
    """Whether a path of the index stays below the folder it is put in."""
    return _UNSAFE.search(path) is None


def extract(task: dict[str, Any]) -> dict[str, Any]:
    """Write the files of a slice of the index.

    Args:
        task: ``parts`` (files of the archive, or None for loose files), ``files`` (the folder that
            loose ones are in), ``index`` (the data set's index), ``start`` and ``end`` (bytes of
            the index that hold the slice's lines) and ``root`` (folder to write below; the folders
            of the members exist).

    Returns:
        ``files`` and ``bytes`` written, ``bytes`` as the index counts them.

    Raises:
        InputError: If a path is unsafe, bytes are damaged or not those of the index, or the disk
            is full.
    """
    with Path(task["index"]).open("rb") as lines:
        lines.seek(task["start"])
        text = lines.read(task["end"] - task["start"])
    rows = [orjson.loads(line) for line in text.splitlines()]
    paths = [Path(part) for part in task["parts"] or ()]
    where = paths[0].name if paths else task["files"]
    for row in rows:
        if not safe_index_path(row["path"]):
            raise InputError(f"{where}: {row['path']!r} is refused: the path is unsafe")
    with machine_errors("extracting media"):
        root = os.open(task["root"], os.O_RDONLY | os.O_DIRECTORY)
        try:
            if paths:
                _from_archive(paths, rows, root, where)
            else:
                _copy_loose(Path(task["files"]), rows, root)
        finally:
            os.close(root)
    return {"files": len(rows), "bytes": sum(row["size"] for row in rows)}


def clone(source: int, target: int) -> bool:
    """Have an empty file share another one's blocks; False where the file system cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


class _Target:
    """A file of the media root while its bytes arrive.

    Args:
        root: Folder to write below.
        row: The file's line of the index.
        where: The archive's name, for messages.
    """

    def __init__(self, root: int, row: dict[str, Any], where: str) -> None:
        self._row, self._where = row, where
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        self.fd = os.open(row["path"], flags, 0o444, dir_fd=root)
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: "bytes | memoryview") -> None:
        """Write the next bytes."""
        self.read(data)
        done = os.write(self.fd, data)
        while done < len(data):
            done += os.write(self.fd, data[done:])

    def read(self, data: "bytes | memoryview") -> None:
        """Take note of the next bytes, which are in the file already."""
        self._digest.update(data)
        self._size += len(data)

    def finish(self) -> None:
        """Compare the bytes with the index, and convert an image that needs it.

        Raises:
            InputError: If they are others.
        """
        found = (self._size, self._digest.hexdigest())
        if found != (self._row["size"], self._row["sha256"]):
            raise changed(self._where, self._row)
        media = self._row["media"]
        if not media or not media.get("converted"):
            return
        # Imported here: most slices hold no such image, and Pillow takes a while to load.
        from omnistage.archives.images import write_as_shown

        with os.fdopen(self.fd, "r+b", closefd=False) as file:
            file.seek(0)
            try:
                write_as_shown(cast(BinaryIO, file))
            except (ValueError, OSError) as e:
                raise InputError(f"{self._where}: {self._row['path']!r}: {e}") from e

    def __enter__(self) -> "_Target":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _copy_loose(files: Path, rows: Sequence[dict[str, Any]], root: int) -> None:
    """Copy loose files, so that who writes to the media root does not change the artifact."""
    buffer = memoryview(bytearray(_TAR_BLOCK))
    for row in rows:
        path = files / row["file"]
        if path.is_symlink() or not path.is_file():
            raise changed(row["file"], row)
        with path.open("rb", buffering=0) as source, _Target(root, row, row["file"]) as target:
            cloned = clone(source.fileno(), target.fd)
            while count := source.readinto(buffer):
                (target.read if cloned else target.write)(buffer[:count])
            target.finish()


def _from_archive(
    paths: Sequence[Path], rows: Sequence[dict[str, Any]], root: int, where: str
) -> None:
    raw = paths[0].open("rb", buffering=0) if len(paths) == 1 else JoinedFiles(paths)
    with raw:
        _extract(cast(BinaryIO, raw), rows, root, where)


def _extract(file: BinaryIO, rows: Sequence[dict[str, Any]], root: int, where: str) -> None:
    head = file.read(8)
    packed = compression(head)
    if not rows:
        return
    if head[:2] == b"PK":
        _from_zip(file, rows, root, where)
        return
    if packed:
        file.seek(0)
        _write_members(_decompressed(Decompressed(file, packed), where), 0, rows, root, where)
        return
    start = rows[0]["offset"]
    file.seek(start)
    _write_members(_blocks(file), start, rows, root, where)


def _blocks(file: BinaryIO) -> Iterator[memoryview]:
    """Read into one small buffer again and again: it stays in the processor's cache."""
    buffer = memoryview(bytearray(_TAR_BLOCK))
    while count := cast(io.RawIOBase, file).readinto(buffer):
        yield buffer[:count]


def _write_members(
    blocks: Iterator[memoryview],
    base: int,
    rows: Sequence[dict[str, Any]],
    root: int,
    where: str,
) -> None:
    """Cut members out of a tar's bytes.

    Args:
        blocks: The bytes from ``base`` on, in pieces that may be overwritten by the next.
        base: Where in the tar they begin.
        rows: The members in the order in which they lie there.
        root: Folder to write below.
        where: The archive's name, for messages.
    """
    view = memoryview(b"")
    for row in rows:
        at, end = row["offset"], row["offset"] + row["size"]
        if at < base:
            raise changed(where, row)
        with _Target(root, row, where) as target:
            while at < end:
                while at >= base + len(view):
                    base += len(view)
                    view = next(blocks, memoryview(b""))
                    if not view:
                        raise changed(where, row)
                piece = view[at - base : end - base]
                target.write(piece)
                at += len(piece)
            target.finish()


def _decompressed(stream: Decompressed, where: str) -> Iterator[memoryview]:
    """Decompress on another thread than the one that writes: each is about half of the work."""
    blocks: queue.Queue[memoryview | Exception] = queue.Queue(maxsize=8)
    stopped = threading.Event()

    def read() -> None:
        try:
            while not stopped.is_set():
                block = stream.block()
                blocks.put(block)
                if not block:
                    return
        except Exception as e:  # raised again by the thread that writes
            blocks.put(e)

    reader = threading.Thread(target=read, name="decompress")
    reader.start()
    try:
        while True:
            block = blocks.get()
            if isinstance(block, EOFError | ValueError):
                raise InputError(f"{where}: damaged: {block}") from block
            if isinstance(block, Exception):
                raise block
            if not block:
                return
            yield block
    finally:
        stopped.set()
        while reader.is_alive():  # it may be waiting for room in the queue
            while not blocks.empty():
                blocks.get_nowait()
            reader.join(timeout=0.01)


def _from_zip(file: BinaryIO, rows: Sequence[dict[str, Any]], root: int, where: str) -> None:
    for number, row in enumerate(rows):
        start = row["offset"]
        after = rows[number + 1]["offset"] if number + 1 < len(rows) else start
        room = after - start if 0 < after - start <= _BLOCK else min(row["size"] + 1024, _BLOCK)
        file.seek(start)
        head = file.read(max(room, LOCAL_HEADER.size))
        while len(head) < LOCAL_HEADER.size:  # at the end of a part
            more = file.read(room)
            if not more:
                raise changed(where, row)
            head += more
        fields = LOCAL_HEADER.unpack_from(head)
        method, body = fields[3], LOCAL_HEADER.size + fields[9] + fields[10]
        with _Target(root, row, where) as target:
            left = row["size"]
            for data in _member(file, start, head, body, method, left, where, row):
                left -= len(data)
                if left < 0:
                    raise changed(where, row)
                target.write(data)
            target.finish()


def _member(
    file: BinaryIO,
    start: int,
    head: bytes,
    body: int,
    method: int,
    size: int,
    where: str,
    row: dict[str, Any],
) -> Iterator[bytes]:
    """Yield a zip member's bytes, of which ``head`` holds the first from ``body`` on."""
    pending = head[body:]
    file.seek(start + max(body, len(head)))
    decode: Any = decoder(method)
    if decode is None:
        while size and pending:
            yield pending[:size]
            size -= len(pending[:size])
            pending = file.read(min(size, _BLOCK)) if size else b""
        return
    try:
        while not decode.eof:
            if not pending and getattr(decode, "needs_input", True):
                pending = file.read(_BLOCK)
                if not pending:
                    return
            yield decode.decompress(pending, _BLOCK)
            pending = getattr(decode, "unconsumed_tail", b"")
    except (ZlibError, OSError) as e:
        raise InputError(f"{where}: member {row['member']!r} is damaged: {e}") from e


def changed(where: str, row: dict[str, Any]) -> InputError:
    """Return the error for bytes that are not those that the index was made of."""
    return InputError(
        f"{where}: {row['member'] or row['path']!r} does not have the {row['size']} bytes of the "
        "index; the file or the index was changed: check the artifact with omnistage verify"
    )


if __name__ == "__main__":
    serve(extract)
