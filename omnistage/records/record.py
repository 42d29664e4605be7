"""The canonical record: one question about media and its answer, a line of RewrittenJSONL.

A record is a JSON object with these keys, in this order; keys in brackets are left out when empty:

==============  ==================================================================================
key             value
==============  ==================================================================================
``id``          unique within its file: ``<record file>:<line>``
``source``      label of the data set it comes from
``task``        one of :data:`TASKS`: how the answer is checked
``messages``    turns of ``system``, ``user`` and ``assistant``, each ``{"role", "content"}``; the
                text of user and system turns holds a tag of :data:`TAGS` for each medium, in
                the order of the lists; see ``plain_text.py`` for tags that are text. An answer
                not to be learned has ``"loss": false``
[``images``]    paths relative to the media root, with ``/``
[``audios``]    likewise
[``videos``]    likewise
[``objects``]   boxes and names for ``<bbox>`` and ``<ref-object>`` in the text, as in ms-swift
``solution``    the right answer; of a judge record the five-key JSON verdict as text, or
                ``{"better": …}`` where only the preference is known
[gold columns]  :data:`GOLD`, where the task has them
==============  ==================================================================================

Records to fine-tune on end with an assistant turn; records for reinforcement learning and for
testing do not.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from omnistage.errors import InputError
from omnistage.files import counted

Task = Literal[
    "judge",
    "choice",
    "multi_choice",
    "math",
    "numeric",
    "ocr",
    "regression",
    "emotion",
    "rec",
    "free_form",
    "yes_no",
]
Split = Literal["sft", "rl", "test"]

TASKS: tuple[Task, ...] = get_args(Task)
SPLITS: tuple[Split, ...] = get_args(Split)
ROLES = ("system", "user", "assistant")
TAGS = {"images": "<image>", "audios": "<audio>", "videos": "<video>"}
"""Media list of a record to the tag that stands in the text for one item of it."""
MEDIA = tuple(TAGS)
"""The media lists of a record."""
GOLD = ("better", "score_A", "score_B", "cmp_gt", "options", "problem_type")
KEYS = ("id", "source", "task", "messages", *TAGS, "objects", "solution", *GOLD)


class RecordError(ValueError):
    """The object is not a canonical record; the message names the field."""


def dump(record: dict[str, Any], default: Callable[[Any], Any] | None = None) -> bytes:
    """Return a record as one JSON line, its keys in canonical order, empty ones left out.

    Args:
        record: The record.
        default: Returns what is written for a value that orjson does not know.
    """
    ordered = {key: record[key] for key in KEYS if key in record and record[key] not in (None, [])}
    return orjson.dumps(ordered, default) + b"\n"


def check(record: Any) -> None:
    """Check that an object is a canonical record.

    Raises:
        RecordError: Naming the first wrong field.
    """
    if not isinstance(record, dict):
        raise RecordError("a JSON object is needed")
    _check_fields(record)
    _check_messages(record["messages"])
    for field, tag in TAGS.items():
        paths = record.get(field, [])
        if not isinstance(paths, list) or not all(isinstance(p, str) and p for p in paths):
            raise RecordError(f"{field}: a list of paths is needed")
        for path in paths:
            if path.startswith("/") or "\\" in path or ".." in path.split("/"):
                raise RecordError(f"{field}: {path!r} is not relative to the media root")
        tags = count_tags(record["messages"], tag)
        if tags != len(paths):
            raise RecordError(
                f"{field}: {counted(len(paths), 'item')} but {counted(tags, f'{tag} tag')} in the "
                "text"
            )


def count_tags(messages: list[dict[str, Any]], tag: str) -> int:
    """Return how often a tag stands for a medium: in all turns but answers."""
    return sum(m["content"].count(tag) for m in messages if m["role"] != "assistant")


def _check_fields(record: dict[str, Any]) -> None:
    unknown = [key for key in record if key not in KEYS]
    if unknown:
        raise RecordError(f"{unknown[0]}: unknown field")
    for key in ("id", "source", "solution"):
        if not isinstance(record.get(key), str):
            raise RecordError(f"{key}: a text is needed")
    if record.get("task") not in TASKS:
        raise RecordError(f"task: one of {', '.join(TASKS)} is needed")
    if record.get("better") not in (None, "A", "B", "equal"):
        raise RecordError("better: A, B or equal is needed")
    for key in ("score_A", "score_B"):
        if key in record and type(record[key]) is not int:
            raise RecordError(f"{key}: an integer is needed")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise RecordError("messages: a list of turns is needed")
    for number, message in enumerate(messages):
        loss = isinstance(message, dict) and message.keys() - {"role", "content"}
        if loss and (loss != {"loss"} or message["loss"] is not False):
            raise RecordError(f"messages.{number}: beside role and content only loss: false")
        if not isinstance(message, dict) or not message.keys() >= {"role", "content"}:
            raise RecordError(f"messages.{number}: role and content are needed")
        if message["role"] not in ROLES or not isinstance(message["content"], str):
            raise RecordError(f"messages.{number}: a role of {', '.join(ROLES)} and a text needed")
    if not any(m["role"] == "user" for m in messages):
        raise RecordError("messages: a user turn is needed")


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a canonical JSON Lines file, each checked.

    Raises:
        InputError: If the file is missing or a line is not a record; names file, line and field.
    """
    try:
        with path.open("rb") as f:
            for number, line in enumerate(f, 1):
                try:
                    record = orjson.loads(line)
                    check(record)
                except ValueError as e:
                    raise InputError(f"{path}:{number}: not a canonical record: {e}") from e
                yield record
    except FileNotFoundError as e:
        raise InputError(f"{path}: no such file") from e


def prompt_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a record's messages without the answer it ends with."""
    messages = record["messages"]
    return messages[:-1] if messages[-1]["role"] == "assistant" else messages


def modality_of(record: Mapping[str, Any]) -> str:
    """Return ``image``, ``audio``, ``video``, several joined by ``+``, or ``text``."""
    return "+".join(name[:-1] for name in MEDIA if record.get(name)) or "text"
