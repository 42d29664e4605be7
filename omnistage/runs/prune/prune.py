"""What no run needs any more, and its removal.

Kept is what the latest runs refer to, and what their artifacts were made from; a run that is still
at work counts as one of them. What a process holds the lock of is left alone. A bucket has no locks
between machines: what was written to it within the last day is left there.
"""

from pathlib import Path

from omnistage.errors import machine_errors
from omnistage.runs.folder import EventReader, all_runs, read_run
from omnistage.runs.prune import folder
from omnistage.runs.prune.needed import Keep, Places, Unneeded, named_places
from omnistage.store.uris import uri_path


def unneeded(home: Path, store: str, keep: int, since: float | None = None) -> list[Unneeded]:
    """Return what no kept run needs, the largest first.

    Args:
        home: omnistage's folder.
        store: URI of the store.
        keep: How many runs to keep: the latest.
        since: Unix time; runs that began later are kept too.

    Raises:
        InputError: If a run's folder cannot be read, or the bucket may not.
        TransientError: If S3 does not answer.
    """
    runs, which = [read_run(path) for path in all_runs(home)], Keep(keep, since)
    kept = [
        run
        for number, run in enumerate(runs)
        if run.state == "running" or which.covers(number, run.started)
    ]
    found = [
        Unneeded("run", str(run.folder), folder.size(run.folder), run.folder / "lock")
        for run in runs
        if run not in kept
    ]
    named: Places = set()
    for run in kept:
        for event in EventReader(run.folder / "events.jsonl").read():
            named |= named_places(event)
    at_work = any(run.state == "running" for run in kept)
    if store.startswith("s3://"):
        from omnistage.runs.prune import bucket  # boto3 takes half a second to import

        found += bucket.unneeded(store, named, which, at_work)
    else:
        found += folder.unneeded(uri_path(store), named, which, at_work)
    return sorted(found, key=lambda item: (-item.size, item.place))


def remove(found: list[Unneeded]) -> list[Unneeded]:
    """Remove what was found, but for what a process holds; return what was left.

    Raises:
        InputError: If something may not be removed.
        TransientError: If S3 does not answer.
    """
    left = []
    for item in found:
        if item.held:
            removed = False
        elif item.place.startswith("s3://"):
            from omnistage.runs.prune import bucket  # boto3, as above

            removed = bucket.remove(item)
        else:
            with machine_errors(f"removing {item.place}"):
                removed = folder.remove(item)
        if not removed:
            left.append(item)
    return left
