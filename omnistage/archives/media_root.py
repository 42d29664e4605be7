"""Make the media root: the folder in which every path of the index is a file.

Training reads media as files, so the archives of a ``DatasetTarball`` are extracted once on each
node, by whichever process comes first; all others wait and share the result.
"""

import ctypes
import os
import shutil
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from omnistage.archives.decompress import compression
from omnistage.archives.extract import extract, safe_index_path
from omnistage.archives.names import group_archives
from omnistage.errors import InputError, machine_errors
from omnistage.events import Events
from omnistage.files import boot_id, free_bytes, human_bytes, locked
from omnistage.workers.pool import WorkerPool

FILES = "files"
INDEX = "index.jsonl"
_SLICE = 500  # members of a plain tar or a zip that one task extracts


def media_root(
    dataset_folder: Path, digest: str, scratch: Path, events: Events | None = None
) -> Path:
    """Return a folder in which ``<path>`` exists for every line of the data set's index.

    The first caller extracts the archives, on all cores, into a temporary folder, which is renamed
    when it is whole; callers in other processes wait for it meanwhile. Loose media are linked, not
    copied. What a killed extraction left is removed by the next. The files reach the disk while
    the caller goes on; should the machine fail before that, they are extracted again.

    Args:
        dataset_folder: Local folder of a ``DatasetTarball``.
        digest: Its content digest; names the folder, so that two data sets never mix.
        scratch: Node-local folder with room for the extracted media.
        events: Where progress goes.

    Raises:
        InputError: If a member is unsafe or not as the index says, or the disk is too full.
    """
    root = scratch / "media" / digest.removeprefix("sha256:")[:32]
    if _is_whole(root):
        return root
    with machine_errors(f"extracting to {root}"), locked(root.with_suffix(".lock")):
        if _is_whole(root):
            return root
        part = root.with_suffix(".part")
        for left in (root, part):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        boot = boot_id()
        if boot:
            _write_synced(_unsynced(root), boot)
        _extract_all(dataset_folder, part, events)
        if not boot:
            _sync(part)
        part.rename(root)
    if boot:
        flush = threading.Thread(
            target=_flush, args=(root, events), name=f"flush {root.name}", daemon=True
        )
        flush.start()
    return root


def _is_whole(root: Path) -> bool:
    """Whether the folder is there, as whole as its last rename found it.

    That holds unless the machine went down before the files were on its disk.
    """
    if not root.is_dir():
        return False
    try:
        return _unsynced(root).read_text() == boot_id()
    except FileNotFoundError:
        return True


def _unsynced(root: Path) -> Path:
    """Return the file that names the boot in which a folder was made, until it is on the disk."""
    return root.with_suffix(".boot")


def _write_synced(path: Path, text: str) -> None:
    with path.open("w") as f:
        f.write(text)
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
    loose: list[dict[str, Any]]
    folders: set[str]
    size: int


def _extract_all(dataset: Path, root: Path, events: Events | None) -> None:
    found = _read_index(dataset, root)
    free = free_bytes(root)
    if found.size > free:
        raise InputError(
            f"{root}: {human_bytes(free)} free, the extracted media need "
            f"{human_bytes(found.size)}; free some space or set OMNISTAGE_SCRATCH to another disk"
        )
    _make_folders(root, found.folders)
    for row in found.loose:
        _link(dataset / FILES / row["file"], root / row["path"])
    _run(found.tasks, found.size, events)


def _read_index(dataset: Path, root: Path) -> _Found:
    """Cut the index into tasks, each some lines of it that belong to one archive."""
    files = dataset / FILES
    paths = (p.relative_to(files).as_posix() for p in files.rglob("*") if p.is_file())
    archives = {archive.name: archive for archive in group_archives(paths)}
    found = _Found([], [], set(), 0)
    current: str | None = None
    parts: list[str] = []
    count = step = at = 0
    with (dataset / INDEX).open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            found.folders.add(row["path"].rpartition("/")[0])
            if row["member"] is None:
                if not safe_index_path(row["path"]):
                    raise InputError(f"{dataset / INDEX}: path {row['path']!r} is unsafe")
                found.loose.append(row)
                current = None
            else:
                found.size += row["size"]
                if row["file"] != current or count == step:
                    if row["file"] not in archives:
                        raise InputError(f"{dataset / INDEX}: {row['file']!r} is no archive of it")
                    if row["file"] != current:
                        current = row["file"]
                        parts = [str(files / p) for p in archives[row["file"]].parts]
                        step = _SLICE if _random_access(parts[0]) else -1
                    found.tasks.append(
                        {
                            "parts": parts,
                            "index": str(dataset / INDEX),
                            "start": at,
                            "root": str(root),
                        }
                    )
                    count = 0
                count += 1
                found.tasks[-1]["end"] = at + len(line)
            at += len(line)
    for folder in found.folders - {""}:
        if not safe_index_path(folder):
            raise InputError(f"{dataset / INDEX}: path {folder + '/…'!r} is unsafe")
    return found


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


def _link(source: Path, target: Path) -> None:
    """Link a loose file: hard where both lie on one file system, else symbolically."""
    try:
        os.link(source, target)
    except OSError:
        target.symlink_to(source.absolute())


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
