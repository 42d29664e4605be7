"""Extract the members of one archive to the paths that the index gives them.

The index says where each member's bytes are, so no archive is parsed a second time, and a plain
tar or a zip can be cut into slices that several processes extract side by side.
"""

import bz2
import os
import queue
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from omnistage.archive_names import safe_path
from omnistage.decompress import Decompressed, compression
from omnistage.errors import InputError, machine_errors
from omnistage.file_views import JoinedFiles
from omnistage.worker_pool import serve

_CHUNK = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # APPNOTE.TXT 4.3.7
_STORED, _DEFLATED, _BZIP2 = 0, 8, 12


def extract(task: dict[str, Any]) -> dict[str, Any]:
    """Extract a slice of an archive's members.

    Args:
        task: ``parts`` (files of the archive), ``starts`` (where the parts of a spanned zip
            begin), ``index`` (file with the archive's index rows), ``first`` and ``count`` (rows
            of the slice), ``root`` (folder to write below; the folders of the members exist).

    Returns:
        ``files`` and ``bytes`` written.

    Raises:
        InputError: If a member's path is unsafe, its size is not the index's, its bytes are
            damaged, or the disk is full.
    """
    root = task["root"]
    where = Path(task["parts"][0]).name
    with Path(task["index"]).open("rb") as lines:
        rows = [
            orjson.loads(line)
            for line in islice(lines, task["first"], task["first"] + task["count"])
        ]
    for row in rows:
        try:
            safe = safe_path(row["path"])
        except ValueError as e:
            raise InputError(f"{where}: member {row['member']!r} is refused: {e}") from e
        if safe != row["path"]:
            raise InputError(f"{where}: member {row['member']!r} has the odd path {row['path']!r}")
    with machine_errors("extracting archives"), JoinedFiles([Path(p) for p in task["parts"]]) as f:
        file = cast(BinaryIO, f)
        head = file.read(8)
        file.seek(0)
        packed = compression(head)
        if head[:2] == b"PK":
            _from_zip(file, rows, root, where)
        elif packed:
            _from_stream(Decompressed(file, packed), rows, root, where)
        else:
            _from_tar(file, rows, root, where)
    return {"files": len(rows), "bytes": sum(row["size"] for row in rows)}


def _create(root: str, path: str) -> int:
    return os.open(f"{root}/{path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)


def _from_tar(file: BinaryIO, rows: Sequence[dict[str, Any]], root: str, where: str) -> None:
    for row in rows:
        target = _create(root, row["path"])
        try:
            left = row["size"]
            file.seek(row["offset"])
            while left:
                data = file.read(min(left, _CHUNK))
                if not data:
                    raise _short(where, row)
                _write(target, data)
                left -= len(data)
        finally:
            os.close(target)


def _from_zip(file: BinaryIO, rows: Sequence[dict[str, Any]], root: str, where: str) -> None:
    for row in rows:
        file.seek(row["offset"])
        fields = _LOCAL_HEADER.unpack(_exactly(file, _LOCAL_HEADER.size, where, row))
        method, name, extra = fields[3], fields[9], fields[10]
        start = row["offset"] + _LOCAL_HEADER.size + name + extra
        if method == _STORED:
            _from_tar(file, [{**row, "offset": start}], root, where)
            continue
        file.seek(start)
        decoder = zlib.decompressobj(-15) if method == _DEFLATED else bz2.BZ2Decompressor()
        target = _create(root, row["path"])
        try:
            written = 0
            for data in _decoded(file, decoder, where, row):
                written += len(data)
                if written > row["size"]:
                    break
                _write(target, data)
        finally:
            os.close(target)
        if written != row["size"]:
            raise _short(where, row)


def _decoded(file: BinaryIO, decoder: Any, where: str, row: dict[str, Any]) -> Iterator[bytes]:
    # Members are mostly smaller than a chunk, and what is read past the end is read in vain.
    step = min(_CHUNK, max(4096, row["size"] + 512))
    pending = b""
    while not decoder.eof:
        if not pending and getattr(decoder, "needs_input", True):
            pending = file.read(step)
            if not pending:
                raise _short(where, row)
        try:
            yield decoder.decompress(pending, _CHUNK)
        except (zlib.error, OSError) as e:
            raise InputError(f"{where}: member {row['member']!r} is damaged: {e}") from e
        pending = getattr(decoder, "unconsumed_tail", b"")


def _from_stream(
    stream: Decompressed, rows: Sequence[dict[str, Any]], root: str, where: str
) -> None:
    """Decompress on this thread and write on another: each is about half of the work."""
    pieces: queue.Queue[tuple[dict[str, Any], bytes] | None] = queue.Queue(maxsize=64)
    failed: list[BaseException] = []

    def write() -> None:
        current, target = None, -1
        while (piece := pieces.get()) is not None:
            if failed:
                continue
            row, data = piece
            try:
                if row is not current:
                    if target >= 0:
                        os.close(target)
                    current, target = row, _create(root, row["path"])
                _write(target, data)
            except OSError as e:
                failed.append(e)
        if target >= 0:
            os.close(target)

    writer = threading.Thread(target=write, name="extract-writer")
    writer.start()
    try:
        for row in rows:
            while stream.tell() < row["offset"]:
                if not stream.read(min(_CHUNK, row["offset"] - stream.tell())):
                    raise _short(where, row)
            left = row["size"]
            if not left:
                pieces.put((row, b""))
            while left:
                data = stream.read(min(left, _CHUNK))
                if not data:
                    raise _short(where, row)
                pieces.put((row, data))
                left -= len(data)
            if failed:
                break
    except (EOFError, ValueError) as e:
        raise InputError(f"{where}: damaged: {e}") from e
    finally:
        pieces.put(None)
        writer.join()
    if failed:
        raise failed[0]


def _write(target: int, data: bytes) -> None:
    done = os.write(target, data)
    while done < len(data):
        done += os.write(target, data[done:])


def _exactly(file: BinaryIO, count: int, where: str, row: dict[str, Any]) -> bytes:
    data = b""
    while len(data) < count:
        more = file.read(count - len(data))
        if not more:
            raise _short(where, row)
        data += more
    return data


def _short(where: str, row: dict[str, Any]) -> InputError:
    return InputError(
        f"{where}: member {row['member']!r} does not have the {row['size']} bytes of the index; "
        "the archive or the index was changed: check the artifact with omnistage verify"
    )


if __name__ == "__main__":
    serve(extract)
