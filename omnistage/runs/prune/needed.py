"""What the kept runs refer to, and what that was made from."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from omnistage.errors import InputError
from omnistage.store.manifest import Manifest

Places = set[tuple[str, str]]
"""Stage and key of artifacts."""

SUMMARY = "summary.json"
"""The record of a run on a cluster that its exit task writes at the end."""
_LONGEST_RUN = 30 * 86400.0
"""Seconds for which a run on a cluster without a summary counts as being at work."""
_PLACE = re.compile(r"/([A-Za-z0-9_.-]+)/([0-9a-f]{32})(?:/|$)")


@dataclass(frozen=True)
class Unneeded:
    """Something that no kept run refers to."""

    what: str
    """``artifact``, ``work``, ``scratch`` or ``run``."""
    place: str
    """A folder, or the URI below which it lies in a bucket."""
    size: int
    """Bytes on the disk or in the bucket."""
    lock: Path
    """Held by whoever works on it on this machine."""
    held: str = ""
    """Why it is not removed, if that is known."""
    tag: str = ""
    """Entity tag of an artifact's manifest in a bucket: this version is meant."""


@dataclass(frozen=True)
class Keep:
    """Which runs are kept."""

    latest: int
    since: float | None
    """Unix time."""

    def covers(self, number: int, began: float) -> bool:
        """Whether a run is kept, by its number from the latest, from 0, and when it began."""
        return number < self.latest or (self.since is not None and began >= self.since)

    def covers_records(self, number: int, written: float, ended: bool) -> bool:
        """Whether a run of a cluster is kept, by its records.

        Args:
            number: From the latest, from 0.
            written: Unix time of its newest record.
            ended: Whether it has a summary.
        """
        at_work = not ended and time.time() - written < _LONGEST_RUN
        return at_work or self.covers(number, written)


def named_places(value: object) -> Places:
    """Return stage and key of all that a JSON value names, in a URI or as two fields."""
    if isinstance(value, str):
        return {(stage, key) for stage, key in _PLACE.findall(value)}
    if isinstance(value, list):
        return set().union(*map(named_places, value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*map(named_places, value.values()))
    if isinstance(value.get("stage"), str) and isinstance(value.get("key"), str):
        found.add((value["stage"], value["key"]))
    return found


def recorded_places(data: bytes, where: str) -> Places:
    """Return what a record of a run on a cluster names.

    Raises:
        InputError: If it is damaged: what it named is not known, so nothing may be removed.
    """
    try:
        return named_places(orjson.loads(data))
    except orjson.JSONDecodeError as e:
        raise InputError(
            f"{where}: a damaged record of a run, so it is not known what the run needs; remove it "
            "to prune without it"
        ) from e


def with_upstream(
    named: Places, read: Callable[[str, str], Manifest | None]
) -> tuple[set[str], list[Manifest]]:
    """Return the keys and the manifests of artifacts and of all that they were made from.

    Keys alone count: a step of a run may have another name than its stage.

    Args:
        named: The artifacts; some may not be there, or not yet.
        read: Returns the manifest of a stage and a key, if there is one.
    """
    seen, todo, found = set(named), list(named), []
    while todo:
        manifest = read(*todo.pop())
        if manifest:
            found.append(manifest)
            made_from = named_places(manifest.produced_by.get("inputs", {})) - seen
            seen |= made_from
            todo += made_from
    return {key for _, key in seen}, found
