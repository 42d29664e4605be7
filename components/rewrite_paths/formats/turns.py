"""What the formats have in common: turns with content of text and media parts, and media fields."""

from collections.abc import Iterator, Mapping
from typing import Any

from components.rewrite_paths.draft import Draft, Row, RowError
from components.rewrite_paths.formats.quoted import PLACE
from omnistage.records.record import TAGS

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_TOOL_ROLES = ("tool", "tool_call", "tool_response", "function", "function_call", "observation")
_FIELD_OF = {"image": "images", "audio": "audios", "video": "videos"}
# Where a media part of a chat message keeps its path, by the type it states.
_PARTS = {
    "image": "images",
    "image_url": "images",
    "input_image": "images",
    "audio": "audios",
    "audio_url": "audios",
    "input_audio": "audios",
    "video": "videos",
    "video_url": "videos",
}
_PART_KEYS = frozenset(
    {"type", "text", "value", "content", "path", "url", "bytes", "array", "data", "format", *_PARTS}
)
"""What an object for a text or a medium may say."""
_SEGMENT = frozenset(
    {"start", "end", "start_time", "end_time", "video_start", "video_end", "offset"}
)
"""Keys by which an object means a part of its medium."""
_TEXTS = ("text", "input_text", "output_text")
INLINE = "the medium stands in the row itself; write it to a file of the data set and name that"
_TURN_KEYS = frozenset({"role", "from", "content", "value", "loss", "loss_scale", "weight"})


def text_of(row: Mapping[str, Any], key: str) -> str:
    """Return a text field.

    Raises:
        RowError: If it is not a text.
    """
    value = row.get(key)
    if not isinstance(value, str):
        raise RowError("bad_field", f"{key}: a text is needed")
    return value


def read_turns(value: Any, where: str, draft: Draft) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield each turn, its content still to come, and that content, in any format's words.

    Keys of a turn that a record has no place for are noted in the draft.

    Raises:
        RowError: If it is not a list of turns, or a turn calls tools.
    """
    if not isinstance(value, list) or not value:
        raise RowError("bad_field", f"{where}: a list of turns is needed")
    for number, turn in enumerate(value):
        if not isinstance(turn, dict):
            raise RowError("bad_field", f"{where}.{number}: an object is needed")
        role = turn.get("role", turn.get("from"))
        if turn.get("tool_calls") or turn.get("function_call") or role in _TOOL_ROLES:
            raise RowError("tools", f"{where}.{number}: tool calls have no place in a record")
        if not isinstance(role, str) or role not in _ROLES:
            raise RowError("bad_field", f"{where}.{number}: unknown role {str(role)[:40]!r}")
        draft.dropped += [
            name
            for name in (f"{where}[].{key}" for key in turn if key not in _TURN_KEYS)
            if name not in draft.dropped
        ]
        read: dict[str, Any] = {"role": _ROLES[role], "content": ""}
        if not _is_learned(turn, f"{where}.{number}"):
            read["loss"] = False
        yield read, turn.get("content", turn.get("value"))


def _is_learned(turn: Mapping[str, Any], where: str) -> bool:
    """Whether an answer turn is to be learned, by ms-swift's ``loss`` or OpenAI's ``weight``."""
    if turn.get("loss_scale") not in (None, 1):
        raise RowError("loss_scale", f"{where}: loss_scale has no place in a record; loss has")
    learned = True
    for key, values in (("loss", (True, False)), ("weight", (1, 0))):
        value = turn.get(key)
        if value is None:
            continue
        if value not in values or isinstance(value, str):
            raise RowError("bad_field", f"{where}: {key} must be {values[0]} or {values[1]}")
        learned = learned and bool(value)
    return learned or turn.get("role", turn.get("from")) not in ("assistant", "gpt")


def earlier_turns(row: Row) -> list[dict[str, Any]]:
    """Return the turns that stand before a question, in ``history`` or ``conversation``.

    Raises:
        RowError: If a history is anything but pairs of a question and its answer, or turns.
    """
    turns: list[dict[str, Any]] = []
    for key in ("history", "conversation"):
        if row.peek(key) in (None, "", "[]", [], {}):
            continue
        if key == "conversation" and not isinstance(row.peek(key), list | dict):
            continue  # what the dialogue is called
        listed = row[key]
        for pair in listed if isinstance(listed, list) else [listed]:
            if isinstance(pair, dict) and {"role", "from"} & pair.keys():
                turns += [t | {"content": c} for t, c in read_turns([pair], key, Draft([]))]
                continue
            if isinstance(pair, dict):
                pair = [pair.get("human"), pair.get("assistant")]
            if not isinstance(pair, list) or len(pair) != 2:
                raise RowError("bad_field", f"{key}: a list of pairs is needed")
            turns.append({"role": "user", "content": pair[0]})
            turns.append({"role": "assistant", "content": pair[1]})
    if not all(isinstance(turn["content"], str) for turn in turns):
        raise RowError("bad_field", "earlier turns: texts are needed")
    return turns


def merge_turns(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join turns of one role that follow one another, each on a line of its own.

    Trainers take turns of user and assistant in alternation; ms-swift joins such turns without
    anything between them, others leave the row out.

    Raises:
        RowError: If one of two such answers is to be learned and the other is not.
    """
    merged: list[dict[str, Any]] = []
    for message in messages:
        if not merged or merged[-1]["role"] != message["role"]:
            merged.append(message)
            continue
        if merged[-1].get("loss") != message.get("loss"):
            raise RowError("bad_field", "of two answers in a row one has loss: false")
        merged[-1]["content"] += "\n" + message["content"]
    if any(message["role"] == "system" for message in merged[1:]):
        raise RowError("bad_field", "a system turn stands after the first turn")
    return merged


def join_parts(content: Any, draft: Draft, where: str) -> str:
    """Return a turn's text, with a tag for each media part, whose path goes to the draft's lists.

    Raises:
        RowError: If the content is neither a text nor a list of text and media parts.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RowError("bad_field", f"{where}: content must be a text or a list of parts")
    pieces: list[str] = []
    for part in content:
        if isinstance(part, str):
            pieces.append(part)
            continue
        if isinstance(part, dict) and not _is_place(part, str(part.get("type"))):
            _note_keys(part, f"{where}[].content[]", draft)
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _TEXTS:
            pieces.append(_part_text(part, where))
        elif isinstance(kind, str) and kind in _PARTS:
            field = _PARTS[kind]
            if _is_place(part, kind):
                _check_place(part, draft, field, where)
            else:
                shown = _part_path(part, kind, f"{where}[].content[].{kind}", draft)
                getattr(draft, field).append(shown)
            pieces.append(PLACE + TAGS[field])
        else:
            raise RowError("bad_field", f"{where}: unknown part of type {str(kind)[:40]!r}")
    return "".join(pieces)


def check_answer(content: list[Any], where: str) -> None:
    """Check that an answer, given as a list of parts, shows no medium.

    Raises:
        RowError: If it does: the models that are trained answer in text.
    """
    if any(isinstance(part, dict) and part.get("type") in _PARTS for part in content):
        raise RowError("bad_field", f"{where}: the answer shows a medium")


def _is_place(part: Mapping[str, Any], kind: str) -> bool:
    """Whether a part only says where the next medium of the row's list stands, as in TRL's rows."""
    return all(value is None or key in ("type", "index") for key, value in part.items()) and (
        kind in _FIELD_OF
    )


def _check_place(part: Mapping[str, Any], draft: Draft, field: str, where: str) -> None:
    """Check that places follow the order of the list, and that no path stands in a part too."""
    number = draft.places.count(field)
    if getattr(draft, field):
        raise RowError("bad_field", f"{where}: some parts have the path of their medium, some none")
    if part.get("index") not in (None, number):
        raise RowError("bad_field", f"{where}: parts show {field} in another order than the list")
    draft.places.append(field)


def _part_text(part: Mapping[str, Any], where: str) -> str:
    for key in ("text", "value", "content"):
        if isinstance(part.get(key), str):
            return part[key]
    raise RowError("bad_field", f"{where}: a part of type {part['type']} has no text")


def take_media(row: Mapping[str, Any], draft: Draft) -> None:
    """Add the paths of ``image``, ``images`` and so on: one path, a list, or ``{"path": …}``.

    Raises:
        RowError: If a field holds anything else.
    """
    for single, field in _FIELD_OF.items():
        for key in (single, single.capitalize(), field):
            value = row.get(key)
            if value is None or value == "":
                continue
            items = value if isinstance(value, list) else [value]
            for item in items:
                if isinstance(item, dict):
                    _note_keys(item, key, draft)
                getattr(draft, field).append(_path(item, key))


def _path(item: Any, key: str) -> str:
    if isinstance(item, list):
        raise RowError("bad_field", f"{key}: a list of frames is not read; make a clip of them")
    if isinstance(item, dict):
        # A file of the data set may have the name that stands beside the bytes, by chance.
        if item.get("bytes") or item.get("array"):
            raise RowError("missing_file", f"{key}: {INLINE}")
        item = item.get("path") or item.get("url")
    if not isinstance(item, str) or not item.strip():
        raise RowError("bad_field", f"{key}: a path or a list of paths is needed")
    return item


def _note_keys(item: Mapping[str, Any], where: str, draft: Draft) -> None:
    """Note what an object says of its medium beside the path, and refuse a part of a clip.

    Raises:
        RowError: ``segment``, if it means a part of its medium.
    """
    for key, value in item.items():
        if key in _PART_KEYS or value is None:
            continue
        if key in _SEGMENT and value != 0 and item.get("type") not in _TEXTS:
            raise RowError(
                "segment",
                f"{where}.{key}: a part of a medium is not read; cut it and name the cut file",
            )
        if f"{where}.{key}" not in draft.dropped:
            draft.dropped.append(f"{where}.{key}")


def _part_path(part: Mapping[str, Any], kind: str, where: str, draft: Draft) -> str:
    value = part.get(kind, part.get("url", part.get("path")))
    if value is None:
        value = part.get(kind.removesuffix("_url").removeprefix("input_"))
    if isinstance(value, dict):
        _note_keys(value, where, draft)
        data = value.get("data")
        if isinstance(data, str) and "." not in data:  # base64 has no full stop, a path has
            raise RowError("missing_file", f"{kind}: {INLINE}")
        value = value.get("url", value.get("path", data))
    if not isinstance(value, str) or not value.strip():
        raise RowError("bad_field", f"a part of type {kind} has no path")
    return value
