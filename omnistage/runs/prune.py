"""``omnistage prune``: what no run needs any more, and its removal.

Kept is what the latest runs refer to, and what their artifacts were made from; a run that is still
at work counts as one of them. What a process holds the lock of is left alone.
"""

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil

from omnistage.errors import machine_errors
from omnistage.runs.folder import EventReader, Run, all_runs, read_run
from omnistage.store.layout import MANIFEST
from omnistage.store.manifest import Manifest
from omnistage.store.uris import uri_path

_KEY = re.compile(r"[0-9a-f]{32}")
_WORK = re.compile(r"\.([0-9a-f]{32})\.(work|saved|new|discarded\.\w+)")
_PLACE = re.compile(r"/([A-Za-z0-9_.-]+)/([0-9a-f]{32})(?:/|$)")


@dataclass(frozen=True)
class Unneeded:
    """Something that no kept run refers to."""

    what: str
    """``artifact``, ``work``, ``scratch`` or ``run``."""
    path: Path
    size: int
    """Bytes on the disk."""


def unneeded(home: Path, store: str, keep: int, since: float | None = None) -> list[Unneeded]:
    """Return what no kept run needs, the largest first.

    Args:
        home: omnistage's folder.
        store: URI of the store; of one in a bucket nothing is listed.
        keep: How many runs to keep: the latest.
        since: Unix time; runs that began later are kept too.

    Raises:
        InputError: If a run's folder cannot be read.
    """
    runs = [read_run(folder) for folder in all_runs(home)]
    kept = [
        run
        for number, run in enumerate(runs)
        if number < keep or run.state == "running" or (since is not None and run.started >= since)
    ]
    found = [Unneeded("run", r.folder, _size(r.folder)) for r in runs if r not in kept]
    if not store.startswith("s3://"):
        root = uri_path(store)
        places = _needed(root, kept, keep, since)
        found += _artifacts(root, places)
        if not any(run.state == "running" for run in kept):
            found += _scratch(root / ".scratch", root, places)
    return sorted(found, key=lambda item: (-item.size, str(item.path)))


def remove(found: list[Unneeded]) -> list[Unneeded]:
    """Remove what was found, but for what a process holds; return what was left.

    Raises:
        InputError: If something may not be removed.
    """
    left = []
    for item in found:
        lock = item.path.parent / f".{_key_of(item.path)}.lock"
        with _free(item.path / "lock" if item.what == "run" else lock) as free:
            if not free or (item.what == "scratch" and _is_open(item.path)):
                left.append(item)
                continue
            with machine_errors(f"removing {item.path}"):
                gone = item.path.with_name(f".{_key_of(item.path)}.discarded.prune")
                shutil.rmtree(gone, ignore_errors=True)
                item.path.rename(gone)  # so that no reader sees a part of it
                shutil.rmtree(gone)
    return left


def _needed(root: Path, kept: list[Run], keep: int, since: float | None) -> set[tuple[str, str]]:
    """Return stage and key of every artifact that kept runs refer to, and of what made them."""
    found: set[tuple[str, str]] = set()
    for run in kept:
        for event in EventReader(run.folder / "events.jsonl").read():
            found |= _places(event)
    records = [(p.stat().st_mtime, p) for p in root.glob("runs/*") if p.is_dir()]
    for number, (time, folder) in enumerate(sorted(records, reverse=True)):
        if number < keep or (since is not None and time >= since):
            for path in folder.glob("*.json"):
                found |= _places(orjson.loads(path.read_bytes()))
    todo = list(found)
    while todo:
        stage, key = todo.pop()
        path = root / stage / key / MANIFEST
        if path.is_file():
            made_from = _places(_manifest(path).produced_by.get("inputs", {}))
            todo += made_from - found
            found |= made_from
    return found


def _manifest(path: Path) -> Manifest:
    return Manifest.from_json(path.read_bytes(), str(path))


def _places(value: object) -> set[tuple[str, str]]:
    """Return stage and key of all that a JSON value names, in a URI or as two fields."""
    if isinstance(value, str):
        return {(stage, key) for stage, key in _PLACE.findall(value)}
    if isinstance(value, list):
        return set().union(*map(_places, value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*map(_places, value.values()))
    if isinstance(value.get("stage"), str) and isinstance(value.get("key"), str):
        found.add((value["stage"], value["key"]))
    return found


def _artifacts(root: Path, needed: set[tuple[str, str]]) -> Iterator[Unneeded]:
    """Yield artifacts that nothing needs, and work folders of those and of finished artifacts."""
    keys = {key for _, key in needed}  # a step of a run may have another name than its stage
    for path in sorted(root.glob("*/*")):
        work = _WORK.fullmatch(path.name)
        if not path.is_dir() or path.parent.name in ("runs", ".scratch"):
            continue
        if _KEY.fullmatch(path.name) and path.name not in keys:
            yield Unneeded("artifact", path, _size(path))
        elif work and (work[1] not in keys or (path.parent / work[1]).is_dir()):
            yield Unneeded("work", path, _size(path))


def _scratch(scratch: Path, root: Path, needed: set[tuple[str, str]]) -> Iterator[Unneeded]:
    """Yield what was extracted or fetched from artifacts that nothing needs."""
    names = set()
    for stage, key in needed:
        path = root / stage / key / MANIFEST
        if path.is_file():
            names.add(_manifest(path).digest.removeprefix("sha256:")[:32])
    for path in sorted(scratch.glob("*/*")):
        if path.is_dir() and path.name.partition(".")[0] not in names:
            yield Unneeded("scratch", path, _size(path))


def _key_of(path: Path) -> str:
    work = _WORK.fullmatch(path.name)
    return work[1] if work else path.name


@contextmanager
def _free(lock: Path) -> Iterator[bool]:
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


def _size(path: Path) -> int:
    """Return the bytes that a folder's files take on the disk."""
    return sum(p.lstat().st_blocks * 512 for p in path.rglob("*") if not p.is_dir())
