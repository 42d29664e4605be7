"""Canonical records as the trainer reads them: the node-local media root in front of each path.

Texts stay as they are. That no tag or control token in them is taken for one is the doing of the
template, see :mod:`omnistage.swift.template`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.files import counted, read_jsonl, write_jsonl
from omnistage.records.record import MEDIA

_LEARNED = ("messages", "objects", *MEDIA)


def with_media_root(
    records: Path, root: Path, kept: Sequence[bool] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a split's records with absolute media paths.

    Args:
        records: A JSONL file of a RewrittenJSONL artifact.
        root: The folder that its media paths are relative to.
        kept: For each record, whether it is wanted; all are without.

    Raises:
        InputError: If a file is missing; the message names record and file.
    """
    for number, row in enumerate(read_jsonl(records), 1):
        if kept is not None and not kept[number - 1]:
            continue
        for name in MEDIA:
            for item in row.get(name, ()):
                if not (root / item).is_file():
                    raise InputError(f"{records}:{number} ({row.get('id')}): no file {root / item}")
            if row.get(name):
                row[name] = [str(root / item) for item in row[name]]
        yield row


def write_training_file(
    records: Path, root: Path, target: Path, events: Events, *, gold: bool, kept: Sequence[bool]
) -> int:
    """Write the trainer's input file and return its number of records.

    Args:
        records: The split.
        root: The media root.
        target: The file to write.
        events: Told the count.
        gold: Whether the gold columns go along, for rewards; they are of one type each, since
            the trainer's table needs that.
        kept: For each record, whether it is written.

    Raises:
        InputError: If the split has no records, or a media file is missing.
    """

    def rows() -> Iterator[dict[str, Any]]:
        for row in with_media_root(records, root, kept):
            if gold:
                yield row
            else:
                yield {k: v for k, v in row.items() if k in _LEARNED}

    count = write_jsonl(target, rows())
    if not count:
        raise InputError(f"{records}: the split is empty; see rejected.jsonl beside it")
    events.message(counted(count, "record"))
    return count
