"""Checks of the RL records by themselves, without torch or a model.

That their media are there and can be encoded is known from the encoding pass before.
"""

import random
from pathlib import Path
from typing import Any

from components.grpo.preflight.spec import Check, PreflightSpec, failed, passed
from omnistage.files import read_jsonl
from omnistage.records.record import TAGS, modality_of

MEDIA = {name[:-1]: name for name in TAGS}
"""Media types and the column that holds their paths; ``<image>`` is the tag of the first."""

_TAGS = "media tags"


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
    """Count the tags of one media type in the turns of a record that may have some."""
    turns = (m for m in record.get("messages") or [] if m["role"] != "assistant")
    contents = (message.get("content") for message in turns)
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
    """Check that there are records, and that each has as many items as tags.

    Args:
        spec: The run.
        records: All RL records.
    """
    if len(records) < 2:
        return [failed("records", f"{spec.records} holds {len(records)} records; GRPO needs some")]
    return [_check_tags(records)]


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
