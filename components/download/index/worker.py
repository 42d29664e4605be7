"""The program of the hashing and indexing processes.

Two kinds of task, so that both kinds of hash keep up with the network on two cores: ``digest``
hashes a file, ``index`` reads an archive's members. Both follow a file that is still growing.
"""

import contextlib
import functools
import hashlib
import io
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from components.download.index.probe_process import AHEAD, ProbeProcess, room_for
from components.download.transfer.part_file import GivenUpError, GrowingFile
from omnistage.archives.file_views import JoinedFiles
from omnistage.archives.media_names import media_kind, unreadable
from omnistage.archives.reader import ArchiveLimits, Member, read_members
from omnistage.workers.loop import serve


@functools.cache
def _probes(seconds: float, decode: bool) -> ProbeProcess:
    """Return the decoders' process; it ends with this one, whose pipe it reads."""
    return ProbeProcess(seconds, decode)


def digest(task: dict[str, Any]) -> dict[str, Any]:
    """Hash a file that is being fetched, and probe it if it is a medium.

    Args:
        task: ``path`` (the part file), ``name`` (its final name), ``git`` (whether its git blob
            hash is wanted too), ``probe`` (whether media are probed), ``probe_seconds`` and
            ``decode`` (whether they are decoded).

    Returns:
        ``sha256``, ``git_sha1``, ``size`` and ``media``.
    """
    file = GrowingFile(Path(task["path"]))
    with file:
        sha256 = hashlib.sha256()
        git = hashlib.sha1(b"blob %d\0" % file.size()) if task["git"] else None
        buffer = memoryview(bytearray(1 << 20))
        size = 0
        while count := file.readinto(buffer):
            size += count
            sha256.update(buffer[:count])
            if git:
                git.update(buffer[:count])
    kind = media_kind(task["name"]) if task["probe"] else None
    media = unreadable(task["name"]) if kind else None
    if kind and not media:
        probes = _probes(task["probe_seconds"], task["decode"])
        media = probes.probe(kind, [Path(task["path"])], 0, size)
    return {
        "sha256": sha256.hexdigest(),
        "git_sha1": git.hexdigest() if git else None,
        "size": size,
        "media": media,
    }


def index(task: dict[str, Any]) -> dict[str, Any]:
    """Read an archive's members and write a row for each.

    Args:
        task: ``parts`` (files in order; a single one may still be growing), ``growing``,
            ``spanned`` (whether it is a spanned zip), ``name``, ``limits``, ``encoding``,
            ``probe_seconds``, ``decode`` and ``rows`` (file to write).

    Returns:
        ``members``, how many.

    Raises:
        InputError: If the archive is hostile or damaged.
    """
    parts = [Path(part) for part in task["parts"]]
    rows = Path(task["rows"])
    part = rows.with_suffix(f".{os.getpid()}")
    count = 0
    raw = GrowingFile(parts[0]) if task["growing"] else JoinedFiles(parts)
    with raw, io.BufferedReader(raw, 1 << 16) as file, part.open("wb") as out:
        joined = isinstance(raw, JoinedFiles)
        size = raw.starts[-1] if joined else raw.size()
        starts = raw.starts[:-1] if joined and task["spanned"] else [0]
        members = read_members(
            cast(BinaryIO, file),
            size,
            task["name"],
            ArchiveLimits(**task["limits"]),
            task["encoding"],
            starts,
        )
        probes = _probes(task["probe_seconds"], task["decode"])
        with contextlib.closing(_rows(members, parts, probes)) as found:
            for row in found:
                out.write(orjson.dumps(row) + b"\n")
                count += 1
    part.replace(rows)
    return {"members": count}


def _rows(
    members: Iterator[Member], parts: Sequence[Path], probes: ProbeProcess
) -> Generator[dict[str, Any]]:
    """Yield a row for each member; while one is probed the next ones are read."""
    waiting: deque[dict[str, Any]] = deque()
    try:
        for member in members:
            kind = media_kind(member.name)
            refused = unreadable(member.name) if kind else None
            if refused:
                kind = None
            copy = None
            if kind and member.plain is None:
                yield from _ended(waiting, probes, room_for(member.size))
                copy = probes.new_copy(member.size)
            sha256 = hashlib.sha256()
            for chunk in member.chunks():
                sha256.update(chunk)
                if copy:
                    copy.write(chunk)
            if kind and member.plain is not None:
                probes.begin(kind, parts, member.plain.start, member.size)
            elif kind:
                probes.begin_copy(kind)
            row = {
                "member": member.name,
                "size": member.size,
                "sha256": sha256.hexdigest(),
                "media": refused or kind,
                "offset": member.offset,
            }
            waiting.append(row)
            yield from _ended(waiting, probes, AHEAD)
        yield from _ended(waiting, probes, 0)
    finally:
        probes.clear()


def _ended(
    waiting: deque[dict[str, Any]], probes: ProbeProcess, most: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows that wait for no probe, after ending probes until ``most`` are left.

    The ``media`` of a row that waits is its kind.
    """
    while waiting and (not isinstance(waiting[0]["media"], str) or probes.begun > most):
        row = waiting.popleft()
        if isinstance(row["media"], str):
            row["media"] = probes.end()
        yield row


def _do(task: dict[str, Any]) -> dict[str, Any]:
    try:
        return index(task) if task["do"] == "index" else digest(task)
    except GivenUpError:
        return {"given_up": True}


if __name__ == "__main__":
    serve(_do)
