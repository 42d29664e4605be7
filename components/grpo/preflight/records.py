"""Checks of the RL records by themselves: media tags, files, sound tracks. Neither torch nor model.

All records are read, because one that cannot be encoded ends a run in the middle of the night.
"""

import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import av

from components.grpo.preflight.spec import Check, PreflightSpec, failed, passed
from omnistage.files import read_jsonl
from omnistage.records.record import TAGS, modality_of

MEDIA = {name[:-1]: name for name in TAGS}
"""Media types and the column that holds their paths; ``<image>`` is the tag of the first."""

_TAGS = "media tags"
_FILES = "media files"
_SOUND = "sound tracks"


def load_records(path: Path) -> list[dict[str, Any]]:
    """Read the records.

    Raises:
        InputError: If a line is not a JSON object.
    """
    return list(read_jsonl(path))


def name_of(record: dict[str, Any]) -> str:
    """Return what a record is called in a message."""
    return f"record {record.get('id', '?')!r}"


def tag_count(record: dict[str, Any], kind: str) -> int:
    """Count the tags of one media type in all turns of a record."""
    contents = (message.get("content") for message in record.get("messages") or [])
    return sum(text.count(f"<{kind}>") for text in contents if isinstance(text, str))


def sample_records(records: list[dict[str, Any]], size: int, seed: int) -> list[dict[str, Any]]:
    """Draw records so that every mixture of media and every task is there in turn."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    shuffled = random.Random(seed).sample(records, len(records))
    for record in shuffled:
        groups.setdefault((modality_of(record), str(record.get("task"))), []).append(record)
    drawn: list[dict[str, Any]] = []
    queues = [groups[key] for key in sorted(groups)]
    while len(drawn) < min(size, len(records)):
        for queue in queues:
            if queue and len(drawn) < size:
                drawn.append(queue.pop())
    return drawn


def check_records(spec: PreflightSpec, records: list[dict[str, Any]]) -> list[Check]:
    """Check that items = tags, that the files are there, and that videos have the sound asked for.

    Args:
        spec: The run.
        records: All RL records.
    """
    if len(records) < 2:
        return [failed("records", f"{spec.records} holds {len(records)} records; GRPO needs some")]
    checks = [_check_tags(records), _check_files(records)]
    if all(check.ok for check in checks):
        checks.append(_check_sound(spec, records))
    return checks


def _check_tags(records: list[dict[str, Any]]) -> Check:
    for record in records:
        for kind, column in MEDIA.items():
            items, tags = len(record.get(column) or []), tag_count(record, kind)
            if items != tags:
                return failed(
                    _TAGS,
                    f"{name_of(record)} has {items} {column} and {tags} <{kind}> tags; the model "
                    "would see them in the wrong place or not at all. Write one tag for each item",
                )
    return passed(_TAGS, f"items equal tags in all {len(records)} records")


def _check_files(records: list[dict[str, Any]]) -> Check:
    paths = sorted({path for column in MEDIA.values() for path in _paths(records, column)})
    with ThreadPoolExecutor(8) as pool:
        missing = [
            p for p, there in zip(paths, pool.map(_is_file, paths), strict=True) if not there
        ]
    if missing:
        return failed(
            _FILES,
            f"{len(missing)} of {len(paths)} media files are missing, such as {missing[0]}. Run "
            "rewrite_paths again on the data set that holds them",
        )
    return passed(_FILES, f"all {len(paths)} media files are there")


def _check_sound(spec: PreflightSpec, records: list[dict[str, Any]]) -> Check:
    videos = sorted(set(_paths(records, "videos")))
    if not spec.use_audio_in_video or not videos:
        return passed(_SOUND, "sound tracks are not used")
    with ThreadPoolExecutor(8) as pool:
        sounding = list(pool.map(has_sound, videos))
    silent = [video for video, sound in zip(videos, sounding, strict=True) if not sound]
    if silent:
        return failed(
            _SOUND,
            f"use_audio_in_video is on, but {len(silent)} of {len(videos)} videos have no sound "
            f"track, such as {silent[0]}: the trainer ends when it meets one. Leave those records "
            "out or turn use_audio_in_video off in sft, grpo and eval alike",
        )
    return passed(_SOUND, f"all {len(videos)} videos have a sound track")


@lru_cache(maxsize=100_000)
def has_sound(video: str) -> bool:
    """Tell whether a video has a sound track, from its header."""
    with av.open(video) as container:
        return bool(container.streams.audio)


def _paths(records: Iterable[dict[str, Any]], column: str) -> Iterable[str]:
    return (path for record in records for path in record.get(column) or [])


def _is_file(path: str) -> bool:
    return Path(path).is_file()
