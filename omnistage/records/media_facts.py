"""What is known of the media of a split: the lines of the data set's index that it shows.

They stand in ``<split>.media.jsonl`` beside ``<split>.jsonl``: path, size, sha256 and what probing
found (``media``: type, width and height, duration, has_audio). So nobody has to open a medium
again, and the two files together decide what a stage that reads this split computes.
"""

from collections.abc import Iterable
from itertools import compress
from pathlib import Path
from typing import Any

import orjson

from omnistage.files import read_jsonl

_KEYS = ("path", "size", "sha256", "media")


def media_name(split: str) -> str:
    """Return the name of the file that describes a split's media."""
    return f"{split}.media.jsonl"


def split_files(split: str) -> tuple[str, str]:
    """Return the files of a RewrittenJSONL that decide what a reader of one split gets."""
    return f"{split}.jsonl", media_name(split)


def write_media(index: Path, shown: Iterable[int], target: Path) -> None:
    """Write what is known of the media that are shown; where they are in archives is left out.

    Args:
        index: The data set's ``index.jsonl``, a line a member.
        shown: For each line whether it is wanted.
        target: File to write.
    """
    with index.open("rb") as lines, target.open("wb") as out:
        for line in compress(lines, shown):
            entry = orjson.loads(line)
            out.write(orjson.dumps({key: entry[key] for key in _KEYS}) + b"\n")


def read_media(records: Path) -> dict[str, dict[str, Any]]:
    """Return what is known of each medium of a split, by its path in the records.

    Args:
        records: The split's ``<split>.jsonl``.

    Raises:
        InputError: If the file beside it is missing or broken.
    """
    path = records.with_name(media_name(records.stem))
    return {row["path"]: row["media"] or {} for row in read_jsonl(path)}
