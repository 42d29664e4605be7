r"""Text that looks like a media tag, and stays text.

In the user and system turns of a record ``<image>``, ``<audio>`` and ``<video>`` stand for media.
Where the tag itself is meant it is written with a backslash, ``<\image>``; one more backslash means
one less. In an assistant turn such tags are text as they are.

That no control token's name in a text becomes the token is the doing of the template that trains,
:mod:`omnistage.swift.template`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omnistage.records.record import TAGS

_TAG = re.compile(r"<(\\*)(" + "|".join(tag[1:-1] for tag in TAGS.values()) + ")>")
_IMG = re.compile(r"<(?=img>.+?</img>)")


def escape_tags(text: str) -> str:
    r"""Return a text with a backslash more in each media tag, so that all of them are text."""
    return _TAG.sub(r"<\\\1\2>", text)


def unescape_tags(text: str) -> str:
    """Return a text as it is meant: with a backslash less in each media tag that has any."""
    return _TAG.sub(lambda m: f"<{m[1][1:]}{m[2]}>", text)


def split_tags(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield a prompt's texts, as they are meant, and between them its media tags.

    Yields:
        Text and None, or an empty text and ``image``, ``audio`` or ``video``.
    """
    at, pending = 0, ""
    for found in _TAG.finditer(text):
        pending += text[at : found.start()]
        at = found.end()
        if found[1]:
            pending += f"<{found[1][1:]}{found[2]}>"
            continue
        if pending:
            yield pending, None
        pending = ""
        yield "", found[2]
    pending += text[at:]
    if pending:
        yield pending, None


def for_ms_swift(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    r"""Return a record's messages such that plain ms-swift takes the right tags for media.

    For an export: in omnistage's own trainings :mod:`omnistage.swift.template` sees to it, exactly.

    It takes the first tags of a kind for the media of that kind, whoever says them, and leaves the
    others as text. So a tag that is text is written as it is where no medium of its kind comes
    after it, else with its backslash.
    """
    messages = [dict(message) for message in record["messages"]]
    later: set[str] = set()
    for message in reversed(messages):
        text, answer = message["content"], message["role"] == "assistant"
        parts: list[str] = []
        end = len(text)
        for found in reversed(list(_TAG.finditer(text))):
            slashes, kind = len(found[1]), found[2]
            parts.append(text[found.end() : end])
            end = found.start()
            if not answer and not slashes:
                later.add(kind)
                parts.append(found[0])
                continue
            meant = slashes if answer else slashes - 1
            parts.append("<" + "\\" * (meant or int(kind in later)) + f"{kind}>")
        parts.append(text[:end])
        message["content"] = "".join(reversed(parts))
        if not record.get("images"):  # ms-swift would take <img>…</img> for an image
            message["content"] = _IMG.sub(r"<\\", message["content"])
    return messages
