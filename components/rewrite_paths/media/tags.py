"""Media in the text of a record: the tags that stand for them, and paths written out."""

import re
from typing import Any

from components.rewrite_paths.draft import RowError
from omnistage.files import counted
from omnistage.records.record import TAGS, count_tags

LINES = {"images": "Image file: ", "audios": "Audio file: ", "videos": "Video file: "}
"""How OmniCritic's prompts introduce a path, by media list."""

# The tags of other trainers and of the models' own templates, with or without their brackets.
_WRAP = r"(?:<\|(?:vision|audio)_(?:bos|start)\|>)?{}(?:<\|(?:vision|audio)_(?:eos|end)\|>)?"
_OTHER_TAGS = {
    "images": re.compile(_WRAP.format(r"<(?:\|image_pad\||\|image\||image_pad|image)>"), re.I),
    "audios": re.compile(_WRAP.format(r"<(?:\|audio_pad\||\|audio\||audio_pad|audio)>"), re.I),
    "videos": re.compile(_WRAP.format(r"<(?:\|video_pad\||\|video\||video_pad|video)>"), re.I),
}
# Quick to search for, since it begins with one character.
_MAYBE_TAG = re.compile(r"<(?:image|audio|video|\|)", re.I)
_ANY_LINE = re.compile(r"\b(Image|Audio|Video) file:[ \t]*(?=\S)")
_ONE_LINE = re.compile(r"(\S.*?)(?=  |\n|\Z)")
_FIELD_OF = {"Image": "images", "Audio": "audios", "Video": "videos"}


def read_other_tags(messages: list[dict[str, Any]], field: str) -> None:
    """Write other trainers' and models' tags for a media list as this project's tag.

    Args:
        messages: The turns; changed in place. Answers show no media.
        field: The media list.
    """
    for message in messages:
        if message["role"] != "assistant" and _MAYBE_TAG.search(message["content"]):
            message["content"] = _OTHER_TAGS[field].sub(TAGS[field], message["content"])


def count_any(text: str, field: str) -> int:
    """Return how many tags for a media list a text has, in this project's or others' words."""
    return len(_OTHER_TAGS[field].findall(text)) if _MAYBE_TAG.search(text) else 0


def tags_of(messages: list[dict[str, Any]], field: str) -> int:
    """Return how many tags of a media list stand in all turns but answers."""
    return count_tags(messages, TAGS[field])


def path_lines(text: str) -> list[tuple[int, int, int, str, str]]:
    """Find the ``Image file: PATH`` lines of a prompt.

    A path ends at two spaces, a line end or the end of the text, as OmniCritic's records have it.

    Returns:
        For each: start of the line, start and end of the path, the media list, and the path.
    """
    found = []
    for match in _ANY_LINE.finditer(text):
        path = _ONE_LINE.match(text, match.end())
        if path:
            value = path[1].rstrip()
            start = path.start(1)
            found.append((match.start(), start, start + len(value), _FIELD_OF[match[1]], value))
    return found


def rewrite_line(text: str, start: int, end: int, tag: str, shown: str | None) -> tuple[str, int]:
    """Take a path line out of a prompt, or write it anew.

    Args:
        text: The prompt.
        start: Where the line begins.
        end: Where its path ends; spaces and one line end after it belong to the line.
        tag: Tag put in its place, or an empty text.
        shown: What to write instead of the line, or None to leave the line out.

    Returns:
        The prompt, and where the text after the line begins in it.
    """
    rest = len(text)
    after = text[end:].lstrip(" ")
    stop = rest - len(after)
    if after.startswith("\n"):
        stop += 1
    before = text[:start]
    line = tag if shown is None else (f"{tag}\n{shown}" if tag else shown)
    if stop < rest and (line or (before and not before.endswith("\n"))):
        line += "\n"
    head = before + line
    return head + text[stop:], len(head)


def insert_tags(messages: list[dict[str, Any]], missing: dict[str, int]) -> None:
    """Put tags for untagged media at the front of the first user turn, one a line.

    Args:
        messages: The turns; changed in place.
        missing: How many tags of each media list are missing.
    """
    tags = "".join(f"{TAGS[field]}\n" * count for field, count in missing.items())
    if tags:
        first = next(m for m in messages if m["role"] == "user")
        first["content"] = tags + first["content"]


def check_tags(messages: list[dict[str, Any]], counts: dict[str, int]) -> None:
    """Check that there are as many tags as media.

    Raises:
        RowError: ``tags_mismatch``.
    """
    for field, count in counts.items():
        tags = tags_of(messages, field)
        if tags != count:
            tag = TAGS[field]
            hint = f"; where the tag itself is meant, write <\\{tag[1:]}" if tags > count else ""
            raise RowError(
                "tags_mismatch",
                f"{counted(tags, f'{tag} tag')} in the text but {counted(count, field[:-1])}{hint}",
            )
