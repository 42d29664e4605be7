"""Make the media root: the folder in which every path of the index is a file.

Training reads media as files, so the archives of a ``DatasetTarball`` are extracted once on each
node, by whichever process comes first; all others wait and share the result.
"""

import ctypes
import os
import shutil
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from omnistage.archives.decompress import compression
from omnistage.archives.extract import clone, extract, safe_index_path
from omnistage.archives.names import Archive, group_archives
from omnistage.errors import InputError, machine_errors
from omnistage.events import Events
from omnistage.files import boot_id, free_bytes, human_bytes, locked
from omnistage.workers.pool import WorkerPool

FILES = "files"
INDEX = "index.jsonl"
_SLICE = 500  # files that one task writes, where they can be read on their own


def media_root(
    dataset_folder: Path, digest: str, scratch: Path, events: Events | None = None
) -> Path:
    """Return a folder in which ``<path>`` exists for every line of the data set's index.

    The first caller writes the files, on all cores, into a temporary folder, which is renamed when
    it is whole; callers in other processes wait for it meanwhile. The files are copies of their
    own, read-only, with the bytes that the index was made of; an image that Pillow would not show
    as a viewer does is converted (:mod:`omnistage.archives.images`). What a killed extraction left
    is removed by the next. The files reach the disk while the caller goes on; should the machine
    fail before that, they are written again.

    A folder that is there already is used if each file has the size and the time of modification
    that it was left with; otherwise what changed is named, and all is written again.

    Args:
        dataset_folder: Local folder of a ``DatasetTarball``.
        digest: Its content digest; names the folder, so that two data sets never mix.
        scratch: Node-local folder with room for the media.
        events: Where progress goes.

    Raises:
        InputError: If a path is unsafe, a file is not as the index says, or the disk is too full.
    """
    root = scratch / "media" / digest.removeprefix("sha256:")[:32]
    index = dataset_folder / INDEX
    with machine_errors(f"extracting to {root}"), locked(root.with_suffix(".lock")):
        if _is_whole(root, index, events):
            return root
        part = root.with_suffix(".part")
        for left in (root, part):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        boot = boot_id()
        if boot:
            _write_synced(_unsynced(root), boot.encode())
        _extract_all(dataset_folder, part, events)
        _write_synced(_seal(root), b"".join(_states(part, index)))
        if not boot:
            _sync(part)
        part.rename(root)
    if boot:
        flush = threading.Thread(
            target=_flush, args=(root, events), name=f"flush {root.name}", daemon=True
        )
        flush.start()
    return root


def _is_whole(root: Path, index: Path, events: Events | None) -> bool:
    """Whether the folder is there, as it was sealed, and on the disk or of the same boot."""
    if not root.is_dir():
        return False
    try:
        if _unsynced(root).read_text() != boot_id():
            return False
    except FileNotFoundError:
        pass  # all of it was flushed to the disk
    try:
        sealed = _seal(root).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return False
    states = list(_states(root, index))
    if states == sealed:
        return True
    if events:
        wrong = next((now for now, then in zip(states, sealed, strict=False) if now != then), b"")
        name = wrong.decode(errors="replace").strip().rpartition("\t")[2] or "a file"
        events.warn(f"{root}: {name} was changed or deleted; extracting the media again")
    return False


def _seal(root: Path) -> Path:
    """Return the file with the state in which each file of a folder was left."""
    return root.with_suffix(".seal")


def _states(root: Path, index: Path) -> Iterator[bytes]:
    """Yield a line for each line of the index: size, time of modification (ns) and path."""
    with index.open("rb") as lines:
        for line in lines:
            path = orjson.loads(line)["path"]
            try:
                found = os.lstat(f"{root}/{path}")
                state = f"{found.st_mode:o} {found.st_size} {found.st_mtime_ns}"
            except (FileNotFoundError, NotADirectoryError):
                state = "missing"
            yield f"{state}\t{path}\n".encode()


def _unsynced(root: Path) -> Path:
    """Return the file that names the boot in which a folder was made, until it is on the disk."""
    return root.with_suffix(".boot")


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def _flush(root: Path, events: Events | None) -> None:
    """Bring the files to the disk; then they are good also after the machine went down."""
    try:
        _sync(root)
        _unsynced(root).unlink(missing_ok=True)
    except OSError as e:
        if events:
            events.warn(f"{root}: could not be flushed to the disk: {e}")


@dataclass
class _Found:
    """What one pass over the index finds."""

    tasks: list[dict[str, Any]]
    folders: set[str]
    loose: str | None
    """One of the loose files."""
    archived: int
    """Bytes that members of archives may take."""
    copied: int
    """Bytes that loose files may take."""
    size: int
    """Bytes of all lines, as the index has them."""


def _extract_all(dataset: Path, root: Path, events: Events | None) -> None:
    found = _read_index(dataset, root)
    needed = found.archived + found.copied
    if found.loose and _clones(dataset / FILES / found.loose, root / ".clone"):
        needed = found.archived
    free = free_bytes(root)
    if needed > free:
        raise InputError(
            f"{root}: {human_bytes(free)} free, the extracted media need "
            f"{human_bytes(needed)}; free some space or set OMNISTAGE_SCRATCH to another disk"
        )
    _make_folders(root, found.folders)
    _run(found.tasks, found.size, events)


def _clones(source: Path, target: Path) -> bool:
    """Whether copies take no room, since the file system shares their blocks."""
    with source.open("rb") as one, target.open("wb") as other:
        cloned = clone(one.fileno(), other.fileno())
    target.unlink()
    return cloned


def _read_index(dataset: Path, root: Path) -> _Found:
    """Cut the index into tasks, each some lines of it: loose files, or members of one archive."""
    files = dataset / FILES
    paths = (p.relative_to(files).as_posix() for p in files.rglob("*") if p.is_file())
    archives = {archive.name: archive for archive in group_archives(paths)}
    found = _Found([], set(), None, 0, 0, 0)
    current: str | None = ""
    parts: list[str] | None = None
    count = step = at = 0
    with (dataset / INDEX).open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            found.folders.add(row["path"].rpartition("/")[0])
            found.size += row["size"]
            archive = None if row["member"] is None else row["file"]
            if archive is None:
                found.loose = row["file"]
                found.copied += _most_bytes(row)
            else:
                found.archived += _most_bytes(row)
            if archive != current or count == step:
                if archive != current:
                    current = archive
                    parts, step = _parts(dataset, archive, archives)
                found.tasks.append(
                    {
                        "parts": parts,
                        "files": str(files),
                        "index": str(dataset / INDEX),
                        "start": at,
                        "root": str(root),
                    }
                )
                count = 0
            count += 1
            at += len(line)
            found.tasks[-1]["end"] = at
    for folder in found.folders - {""}:
        if not safe_index_path(folder):
            raise InputError(f"{dataset / INDEX}: path {folder + '/…'!r} is unsafe")
    return found


def _most_bytes(row: dict[str, Any]) -> int:
    """Return the bytes that a line's file may take; a converted image may grow."""
    media = row["media"] or {}
    shown = 3 * media["width"] * media["height"] if media.get("converted") else 0
    return max(row["size"], shown)


def _parts(
    dataset: Path, name: str | None, archives: dict[str, Archive]
) -> tuple[list[str] | None, int]:
    """Return the files of an archive, and how many of its members a task takes (-1: all)."""
    if name is None:
        return None, _SLICE
    if name not in archives:
        raise InputError(f"{dataset / INDEX}: {name!r} is no archive of it")
    parts = [str(dataset / FILES / part) for part in archives[name].parts]
    return parts, _SLICE if _random_access(parts[0]) else -1


def _random_access(archive: str) -> bool:
    """Whether members can be read on their own; a compressed tar is one stream and one task."""
    with Path(archive).open("rb") as f:
        return compression(f.read(8)) is None


def _run(tasks: list[dict[str, Any]], total: int, events: Events | None) -> None:
    """Do the tasks on all cores: on this thread, and in a process for each further core."""
    waiting = deque(tasks)
    helpers = min(len(tasks), os.cpu_count() or 1, 16) - 1
    done = files = 0
    with WorkerPool("omnistage.archives.extract", max(helpers, 1)) as pool:
        started: set[Future[dict[str, Any]]] = set()
        while waiting or started:
            while waiting and len(started) < helpers:
                started.add(pool.submit(waiting.popleft()))
            answers = [extract(waiting.popleft())] if waiting else []
            ready, started = wait(
                started, timeout=0 if answers else None, return_when=FIRST_COMPLETED
            )
            for answer in [*answers, *(future.result() for future in ready)]:
                done += answer["bytes"]
                files += answer["files"]
            if events:
                events.progress(done, total, unit="bytes", extracted=files)


def _make_folders(root: Path, folders: Iterable[str]) -> None:
    made = {""}

    def make(folder: str) -> None:
        if folder not in made:
            make(folder.rpartition("/")[0])
            (root / folder).mkdir()
            made.add(folder)

    for folder in folders:
        make(folder)


def _sync(folder: Path) -> None:
    """Flush the file system that holds ``folder``: once for all files, not once for each."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)  # Python has no name for it
    if syncfs is None:  # not Linux
        os.sync()
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(handle):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(handle)
