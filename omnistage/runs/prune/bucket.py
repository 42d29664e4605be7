"""What no kept run needs in a store in a bucket, and in this machine's scratch folder for it."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from omnistage.errors import InputError
from omnistage.runs.prune import folder
from omnistage.runs.prune.needed import (
    SUMMARY,
    Keep,
    Places,
    Unneeded,
    recorded_places,
    with_upstream,
)
from omnistage.store import objects
from omnistage.store.layout import CONTENT, MANIFEST
from omnistage.store.manifest import Manifest, files_digest
from omnistage.store.objects import Object
from omnistage.store.open import read_manifest
from omnistage.store.s3 import S3Store

_IDLE_SECONDS = 86400.0
"""Another machine may be at work on what was written since; there is no lock to ask."""
_OBJECT = re.compile(
    r"([A-Za-z0-9_.-]+)/(\.?)([0-9a-f]{32})(\.saved)?/(?:content/([^/]+)/)?.*", re.S
)
_RECORD = re.compile(r"runs/([^/]+)/[^/]+\.json")


@dataclass
class _Group:
    """The objects below one URI."""

    size: int = 0
    newest: float = 0.0

    def add(self, found: Object) -> None:
        self.size += found.size
        self.newest = max(self.newest, found.modified)


@dataclass
class _Listing:
    """What lies in a store."""

    manifests: dict[tuple[str, str], Object] = field(default_factory=dict)
    homes: dict[tuple[str, str], _Group] = field(default_factory=dict)
    attempts: dict[tuple[str, str, str], _Group] = field(default_factory=dict)
    """What was uploaded of an artifact's files, by stage, key and attempt."""
    saved: dict[tuple[str, str], _Group] = field(default_factory=dict)
    """Checkpoints of a training that is not done."""
    records: dict[str, list[Object]] = field(default_factory=dict)


def unneeded(uri: str, named: Places, which: Keep, at_work: bool) -> Iterator[Unneeded]:
    """Yield artifacts, leftovers of commits, kept checkpoints and local scratch nothing needs.

    Args:
        uri: Of the store.
        named: What the kept runs of this machine refer to.
        which: Which runs of a cluster are kept, by their records in the store.
        at_work: Whether one of this machine's runs is at work.

    Raises:
        InputError: If the bucket may not be read.
        TransientError: If S3 does not answer.
    """
    store = S3Store(uri)
    listing = _list(store.uri)
    for number, records in enumerate(sorted(listing.records.values(), key=_newest, reverse=True)):
        ended = any(record.uri.endswith(f"/{SUMMARY}") for record in records)
        if which.covers_records(number, _newest(records), ended):
            for record in records:
                named = named | recorded_places(objects.read(record.uri) or b"null", record.uri)

    def read(stage: str, key: str) -> Manifest | None:
        there = (stage, key) in listing.manifests
        return read_manifest(f"{store.uri}/{stage}/{key}/{MANIFEST}") if there else None

    keys, needed = with_upstream(named, read)
    yield from _artifacts(store, listing, keys)
    yield from _leftovers(store, listing, keys, {(m.stage, m.key): m for m in needed})
    locks = store.scratch / "locks"
    if not at_work and all(_is_free(lock) for lock in locks.glob("*")):
        names = {folder.digest_name(m.digest) for m in needed}
        names |= {files_digest(m.files)[:32] for m in needed}  # as S3Store.local names them
        yield from (
            item
            for item in folder.scratch(store.scratch, names)
            if Path(item.place).parent != store.scratch / "work"
        )
        yield from _local_work(store, keys, listing)


def _list(uri: str) -> _Listing:
    listing = _Listing()
    for found in objects.list_below(f"{uri}/"):
        name = found.uri.removeprefix(f"{uri}/")
        if record := _RECORD.fullmatch(name):
            listing.records.setdefault(record[1], []).append(found)
        elif match := _OBJECT.fullmatch(name):
            stage, hidden, key, saved, attempt = match.groups()
            if hidden and saved:
                listing.saved.setdefault((stage, key), _Group()).add(found)
            elif not hidden and not saved:
                listing.homes.setdefault((stage, key), _Group()).add(found)
                if attempt:
                    listing.attempts.setdefault((stage, key, attempt), _Group()).add(found)
                if name == f"{stage}/{key}/{MANIFEST}":
                    listing.manifests[stage, key] = found
    return listing


def _artifacts(store: S3Store, listing: _Listing, keys: set[str]) -> Iterator[Unneeded]:
    for (stage, key), manifest in listing.manifests.items():
        if key not in keys:
            home, place = listing.homes[stage, key], f"{store.uri}/{stage}/{key}/"
            lock = _lock(store, stage, key)
            yield Unneeded("artifact", place, home.size, lock, _held(home.newest), manifest.tag)


def _leftovers(
    store: S3Store, listing: _Listing, keys: set[str], needed: dict[tuple[str, str], Manifest]
) -> Iterator[Unneeded]:
    """Yield what killed commits uploaded, and checkpoints of what is done or not needed."""
    for (stage, key, attempt), group in listing.attempts.items():
        place = f"{store.uri}/{stage}/{key}/{CONTENT}/{attempt}/"
        if (stage, key) not in listing.manifests:
            is_left = key not in keys
        else:  # of an artifact that is not needed it goes with the artifact
            found = needed.get((stage, key))
            is_left = found is not None and not place.startswith(f"{found.uri}/")
        if is_left:
            lock = _lock(store, stage, key)
            yield Unneeded("work", place, group.size, lock, _held(group.newest))
    for (stage, key), group in listing.saved.items():
        if key not in keys or (stage, key) in listing.manifests:
            place, lock = f"{store.uri}/{stage}/.{key}.saved/", _lock(store, stage, key)
            yield Unneeded("work", place, group.size, lock, _held(group.newest))


def _local_work(store: S3Store, keys: set[str], listing: _Listing) -> Iterator[Unneeded]:
    """Yield folders where this machine made what is done, or what nothing needs and is idle."""
    for path in sorted((store.scratch / "work").glob("*/*")):
        stage, key = path.parent.name, path.name
        newest = max(p.lstat().st_mtime for p in (path, *path.rglob("*")))
        if (stage, key) in listing.manifests or (key not in keys and not _held(newest)):
            yield Unneeded("work", str(path), folder.size(path), _lock(store, stage, key))


def remove(item: Unneeded) -> bool:
    """Remove what lies below a URI, a manifest first; return whether it was removed.

    It is left if somebody of this machine is at work on it, or it was written to since it was
    listed.
    """
    with folder.free(item.lock) as is_free:
        below = list(objects.list_below(item.place))
        if not is_free or _held(max((o.modified for o in below), default=0.0)):
            return False
        manifest = f"{item.place}{MANIFEST}"
        if item.tag and not objects.delete_version(manifest, item.tag):
            return False
        if not item.tag and _is_named(item.place):
            return False
        objects.delete([o.uri for o in below if not item.tag or o.uri != manifest])
    return True


def _is_named(place: str) -> bool:
    """Whether the manifest of an artifact names these files, by now."""
    home, content, _ = place.rpartition(f"/{CONTENT}/")
    if not content:
        return False
    try:
        return place.startswith(f"{read_manifest(f'{home}/{MANIFEST}').uri}/")
    except InputError:
        return False  # there is none


def _lock(store: S3Store, stage: str, key: str) -> Path:
    return store.scratch / "locks" / f"{stage}.{key}"


def _held(newest: float) -> str:
    return "written to within the last day" if time.time() - newest < _IDLE_SECONDS else ""


def _is_free(lock: Path) -> bool:
    with folder.free(lock) as is_free:
        return is_free


def _newest(records: list[Object]) -> float:
    return max(record.modified for record in records)
