"""Extract the members of one archive to the paths that the index gives them.

The index says where each member's bytes are, so no archive is parsed a second time, and a plain
tar or a zip can be cut into slices that several processes extract side by side.
"""

import bz2
import io
import os
import queue
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
from zlib_ng import zlib_ng

from omnistage.archives.decompress import Decompressed, ZlibError, compression
from omnistage.archives.file_views import JoinedFiles
from omnistage.errors import InputError, machine_errors
from omnistage.workers.loop import serve

_BLOCK = 1 << 20
_TAR_BLOCK = 1 << 18
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # APPNOTE.TXT 4.3.7
_STORED, _DEFLATED = 0, 8
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]|(?:^|/)\.{0,2}(?:/|$)")
"""Control characters, an absolute path, and components that are empty, ``.`` or ``..``."""


def safe_index_path(path: str) -> bool:
    """Whether a path of the index stays below the folder it is put in."""
    return _UNSAFE.search(path) is None


def extract(task: dict[str, Any]) -> dict[str, Any]:
    """Extract a slice of an archive's members.

    Args:
        task: ``parts`` (files of the archive), ``index`` (the data set's index), ``start`` and
            ``end`` (bytes of the index that hold the slice's lines) and ``root`` (folder to write
            below; the folders of the members exist).

    Returns:
        ``files`` and ``bytes`` written.

    Raises:
        InputError: If a member's path is unsafe, its size is not the index's, its bytes are
            damaged, or the disk is full.
    """
    paths = [Path(part) for part in task["parts"]]
    where = paths[0].name
    with Path(task["index"]).open("rb") as lines:
        lines.seek(task["start"])
        text = lines.read(task["end"] - task["start"])
    rows = [orjson.loads(line) for line in text.splitlines()]
    for row in rows:
        if not safe_index_path(row["path"]):
            raise InputError(
                f"{where}: member {row['member']!r} is refused: its path {row['path']!r} is unsafe"
            )
    with machine_errors("extracting archives"):
        root = os.open(task["root"], os.O_RDONLY | os.O_DIRECTORY)
        raw = paths[0].open("rb", buffering=0) if len(paths) == 1 else JoinedFiles(paths)
        try:
            _extract(cast(BinaryIO, raw), rows, root, where)
        finally:
            raw.close()
            os.close(root)
    return {"files": len(rows), "bytes": sum(row["size"] for row in rows)}


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
            raise _short(where, row)
        target = _create(root, row["path"])
        try:
            while at < end:
                while at >= base + len(view):
                    base += len(view)
                    view = next(blocks, memoryview(b""))
                    if not view:
                        raise _short(where, row)
                piece = view[at - base : end - base]
                _write(target, piece)
                at += len(piece)
        finally:
            os.close(target)


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
        head = file.read(max(room, _LOCAL_HEADER.size))
        while len(head) < _LOCAL_HEADER.size:  # at the end of a part
            more = file.read(room)
            if not more:
                raise _short(where, row)
            head += more
        fields = _LOCAL_HEADER.unpack_from(head)
        method, body = fields[3], _LOCAL_HEADER.size + fields[9] + fields[10]
        target = _create(root, row["path"])
        try:
            left = row["size"]
            for data in _member(file, start, head, body, method, left, where, row):
                left -= len(data)
                if left < 0:
                    break
                _write(target, data)
        finally:
            os.close(target)
        if left:
            raise _short(where, row)


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
    if method == _STORED:
        while size and pending:
            yield pending[:size]
            size -= len(pending[:size])
            pending = file.read(min(size, _BLOCK)) if size else b""
        return
    decoder: Any = zlib_ng.decompressobj(-15) if method == _DEFLATED else bz2.BZ2Decompressor()
    try:
        while not decoder.eof:
            if not pending and getattr(decoder, "needs_input", True):
                pending = file.read(_BLOCK)
                if not pending:
                    return
            yield decoder.decompress(pending, _BLOCK)
            pending = getattr(decoder, "unconsumed_tail", b"")
    except (ZlibError, OSError) as e:
        raise InputError(f"{where}: member {row['member']!r} is damaged: {e}") from e


def _create(root: int, path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=root)


def _write(target: int, data: "bytes | memoryview") -> None:
    done = os.write(target, data)
    while done < len(data):
        done += os.write(target, data[done:])


def _short(where: str, row: dict[str, Any]) -> InputError:
    return InputError(
        f"{where}: member {row['member']!r} does not have the {row['size']} bytes of the index; "
        "the archive or the index was changed: check the artifact with omnistage verify"
    )


if __name__ == "__main__":
    serve(extract)
