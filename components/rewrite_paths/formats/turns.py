"""What the formats have in common: turns with content of text and media parts, and media fields."""

from collections.abc import Iterator, Mapping
from typing import Any

from components.rewrite_paths.draft import Draft, RowError
from omnistage.records.record import TAGS

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
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


def text_of(row: Mapping[str, Any], key: str) -> str:
    """Return a text field.

    Raises:
        RowError: If it is not a text.
    """
    value = row.get(key)
    if not isinstance(value, str):
        raise RowError("bad_field", f"{key}: a text is needed")
    return value


def read_turns(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield role and content of each turn, in OpenAI's or ShareGPT's words.

    Raises:
        RowError: If it is not a list of turns.
    """
    if not isinstance(value, list) or not value:
        raise RowError("bad_field", f"{where}: a list of turns is needed")
    for number, turn in enumerate(value):
        if not isinstance(turn, dict):
            raise RowError("bad_field", f"{where}.{number}: an object is needed")
        role = turn.get("role", turn.get("from"))
        if not isinstance(role, str) or role not in _ROLES:
            raise RowError("bad_field", f"{where}.{number}: unknown role {str(role)[:40]!r}")
        yield _ROLES[role], turn.get("content", turn.get("value"))


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
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
            pieces.append(part["text"])
        elif isinstance(kind, str) and kind in _PARTS:
            field = _PARTS[kind]
            getattr(draft, field).append(_part_path(part, kind))
            pieces.append(TAGS[field])
        else:
            raise RowError("bad_field", f"{where}: unknown part of type {str(kind)[:40]!r}")
    return "".join(pieces)


def take_media(row: Mapping[str, Any], draft: Draft) -> None:
    """Add the paths of ``image``, ``images`` and so on: one path, a list, or ``{"path": …}``.

    Raises:
        RowError: If a field holds anything else.
    """
    for single, field in _FIELD_OF.items():
        for key in (single, field):
            value = row.get(key)
            if value is None or value == "":
                continue
            items = value if isinstance(value, list) else [value]
            getattr(draft, field).extend(_path(item, key) for item in items)


def _path(item: Any, key: str) -> str:
    if isinstance(item, dict):
        item = item.get("path") or item.get("url")
    if not isinstance(item, str) or not item.strip():
        raise RowError("bad_field", f"{key}: a path or a list of paths is needed")
    return item


def _part_path(part: Mapping[str, Any], kind: str) -> str:
    value = part.get(kind, part.get("url", part.get("path")))
    if value is None:
        value = part.get(kind.removesuffix("_url").removeprefix("input_"))
    if isinstance(value, dict):
        value = value.get("url", value.get("path", value.get("data")))
    if not isinstance(value, str) or not value.strip():
        raise RowError("bad_field", f"a part of type {kind} has no path")
    return value
