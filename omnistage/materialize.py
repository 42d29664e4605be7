"""Make the media root: the folder in which every path of the index is a file.

Training reads media as files, so the archives of a ``DatasetTarball`` are extracted once on each
node, by whichever process comes first; all others wait and share the result.
"""

import ctypes
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import Future, as_completed
from pathlib import Path
from typing import Any

import orjson

from omnistage.archive_names import Archive, group_archives, safe_path
from omnistage.errors import InputError, machine_errors
from omnistage.events import Events
from omnistage.files import free_bytes, human_bytes, read_jsonl
from omnistage.store import locked
from omnistage.worker_pool import WorkerPool

FILES = "files"
INDEX = "index.jsonl"
_SLICE = 2000  # members of a plain tar or a zip that one task extracts


def media_root(
    dataset_folder: Path, digest: str, scratch: Path, events: Events | None = None
) -> Path:
    """Return a folder in which ``<path>`` exists for every line of the data set's index.

    The first caller extracts the archives, on all cores, into a temporary folder, which is synced
    and renamed when it is whole; callers in other processes wait for it meanwhile. Loose media are
    linked, not copied. What a killed extraction left is removed by the next.

    Args:
        dataset_folder: Local folder of a ``DatasetTarball``.
        digest: Its content digest; names the folder, so that two data sets never mix.
        scratch: Node-local folder with room for the extracted media.
        events: Where progress goes.

    Raises:
        InputError: If a member is unsafe or not as the index says, or the disk is too full.
    """
    root = scratch / "media" / digest.removeprefix("sha256:")[:32]
    if root.is_dir():  # the rename that gave it this name came last
        return root
    with machine_errors(f"extracting to {root}"), locked(root.with_suffix(".lock")):
        if root.is_dir():
            return root
        part = root.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _extract_all(dataset_folder, part, events)
        _sync(part)
        part.rename(root)
        _sync(root)
    return root


def _extract_all(dataset: Path, root: Path, events: Events | None) -> None:
    files = dataset / FILES
    archives = {
        a.name: a for a in group_archives(p.relative_to(files).as_posix() for p in _walk(files))
    }
    members: dict[str, int] = {}
    loose: list[dict[str, Any]] = []
    folders: set[str] = set()
    total = 0
    lists = root / ".index"
    lists.mkdir()
    current, out = None, None
    for row in read_jsonl(dataset / INDEX):
        folders.add(_checked(row).rpartition("/")[0])
        if row["member"] is None:
            loose.append(row)
            continue
        if row["file"] != current:
            if out:
                out.close()
            if row["file"] not in archives or row["file"] in members:
                raise InputError(f"{dataset / INDEX}: {row['file']!r} is not an archive of it")
            current = row["file"]
            out = (lists / str(len(members))).open("wb")
            members[current] = 0
        assert out is not None
        out.write(orjson.dumps(row) + b"\n")
        members[row["file"]] += 1
        total += row["size"]
    if out:
        out.close()
    if total > free_bytes(root):
        raise InputError(
            f"{root}: {human_bytes(free_bytes(root))} free, the extracted media need "
            f"{human_bytes(total)}; free some space or set OMNISTAGE_SCRATCH to another disk"
        )
    _make_folders(root, folders)
    for row in loose:
        _link(files / row["file"], root / row["path"])
    tasks = [
        {"index": str(lists / str(number)), "root": str(root), **task}
        for number, (name, count) in enumerate(members.items())
        for task in _slices(files, archives[name], count)
    ]
    _run(tasks, total, events)
    shutil.rmtree(lists)


def _slices(files: Path, archive: Archive, count: int) -> list[dict[str, Any]]:
    """Cut the extraction of an archive into tasks; a compressed tar is one stream and one task."""
    parts = [str(files / part) for part in archive.parts]
    with Path(parts[0]).open("rb") as f:
        head = f.read(512)
    step = _SLICE if head[:2] == b"PK" or head[257:262] == b"ustar" else max(count, 1)
    return [
        {"parts": parts, "first": first, "count": min(step, count - first)}
        for first in range(0, count, step)
    ]


def _run(tasks: list[dict[str, Any]], total: int, events: Events | None) -> None:
    workers = min(len(tasks), os.cpu_count() or 1, 16)
    if not workers:
        return
    done = files = 0
    with WorkerPool("omnistage.extract", workers) as pool:
        futures: list[Future[dict[str, Any]]] = [pool.submit(task) for task in tasks]
        for future in as_completed(futures):
            answer = future.result()
            done += answer["bytes"]
            files += answer["files"]
            if events:
                events.progress(done, total, unit="bytes extracted", files=files)


def _checked(row: dict[str, Any]) -> str:
    try:
        return safe_path(row["path"])
    except ValueError as e:
        raise InputError(f"{INDEX}: path {row['path']!r} is refused: {e}") from e


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


def _walk(folder: Path) -> Iterable[Path]:
    return (p for p in folder.rglob("*") if p.is_file())


def _sync(folder: Path) -> None:
    """Flush the file system that holds ``folder``: once for all files, not once for each."""
    syncfs = getattr(ctypes.CDLL(None), "syncfs", None)  # Linux; Python has no name for it
    if syncfs is None:
        os.sync()
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        syncfs(handle)
    finally:
        os.close(handle)
