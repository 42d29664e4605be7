"""What no kept run needs in a store in a folder."""

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from omnistage.runs.prune.needed import (
    SUMMARY,
    Keep,
    Places,
    Unneeded,
    recorded_places,
    with_upstream,
)
from omnistage.store.layout import MANIFEST
from omnistage.store.manifest import Manifest

_KEY = re.compile(r"[0-9a-f]{32}")
_WORK = re.compile(r"\.([0-9a-f]{32})\.(work|saved|new|discarded\.\w+)")


def unneeded(root: Path, named: Places, which: Keep, at_work: bool) -> Iterator[Unneeded]:
    """Yield artifacts, work folders and scratch that nothing needs.

    Args:
        root: Of the store.
        named: What the kept runs of this machine refer to.
        which: Which runs of a cluster are kept, by their records in the store.
        at_work: Whether one of them is at work; its scratch cannot be told from others'.
    """
    records = [(p.stat().st_mtime, p) for p in root.glob("runs/*") if p.is_dir()]
    for number, (time, folder) in enumerate(sorted(records, reverse=True)):
        if which.covers_records(number, time, (folder / SUMMARY).is_file()):
            for path in folder.glob("*.json"):
                named = named | recorded_places(path.read_bytes(), str(path))

    def read(stage: str, key: str) -> Manifest | None:
        path = root / stage / key / MANIFEST
        return Manifest.from_json(path.read_bytes(), str(path)) if path.is_file() else None

    keys, needed = with_upstream(named, read)
    yield from _artifacts(root, keys)
    if not at_work:
        yield from scratch(root / ".scratch", {digest_name(m.digest) for m in needed})


def digest_name(digest: str) -> str:
    """Return how a folder of scratch is named after a digest."""
    return digest.removeprefix("sha256:")[:32]


def _artifacts(root: Path, keys: set[str]) -> Iterator[Unneeded]:
    """Yield artifacts that nothing needs, and work folders of those and of finished artifacts."""
    for path in sorted(root.glob("*/*")):
        work = _WORK.fullmatch(path.name)
        if not path.is_dir() or path.parent.name in ("runs", ".scratch"):
            continue
        lock = path.parent / f".{_key_of(path)}.lock"
        if _KEY.fullmatch(path.name) and path.name not in keys:
            yield Unneeded("artifact", str(path), size(path), lock)
        elif work and (work[1] not in keys or (path.parent / work[1]).is_dir()):
            yield Unneeded("work", str(path), size(path), lock)


def _key_of(path: Path) -> str:
    work = _WORK.fullmatch(path.name)
    return work[1] if work else path.name


def scratch(folder: Path, names: set[str]) -> Iterator[Unneeded]:
    """Yield what was extracted or fetched from artifacts that nothing needs.

    Args:
        folder: The scratch folder.
        names: Of what is needed.
    """
    for path in sorted(folder.glob("*/*")):
        if path.is_dir() and path.name.partition(".")[0] not in names:
            yield Unneeded("scratch", str(path), size(path), path.with_suffix(".lock"))


def remove(item: Unneeded) -> bool:
    """Remove a folder unless a process holds it; return whether it was removed."""
    path = Path(item.place)
    with free(item.lock) as is_free:
        if not is_free or (item.what == "scratch" and _is_open(path)):
            return False
        gone = path.with_name(f".{_key_of(path)}.discarded.prune")
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)  # so that no reader sees a part of it
        shutil.rmtree(gone)
    return True


@contextmanager
def free(lock: Path) -> Iterator[bool]:
    """Hold a lock if there is one and nobody holds it; yield False if somebody does."""
    if not lock.exists():
        yield True
        return
    with lock.open() as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _is_open(folder: Path) -> bool:
    """Whether a process of this machine has a file below a folder open, or works in it."""
    for process in psutil.process_iter():
        try:
            paths = [process.cwd(), *(f.path for f in process.open_files())]
        except (psutil.Error, OSError):
            continue  # it ended, or belongs to somebody else
        if any(Path(path).is_relative_to(folder) for path in paths if path):
            return True
    return False


def size(path: Path) -> int:
    """Return the bytes that a folder's files take on the disk."""
    return sum(p.lstat().st_blocks * 512 for p in path.rglob("*") if not p.is_dir())
