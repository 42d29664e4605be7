r"""Text that looks like a media tag or a control token, and stays text.

In the user and system turns of a record ``<image>``, ``<audio>`` and ``<video>`` stand for media.
Where the tag itself is meant it is written with a backslash, ``<\image>``; one more backslash means
one less. In an assistant turn such tags are text as they are.

A tokenizer turns the names of its control tokens into these tokens wherever they stand, so that a
text could end a turn. :class:`ControlTokens` writes them with a backslash after the first character
(``<\|im_end|>``), which people can read and which can be undone.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from omnistage.errors import InputError
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


def for_ms_swift(record: Mapping[str, Any], control: "ControlTokens") -> list[dict[str, Any]]:
    r"""Return a record's messages such that ms-swift takes the right tags for media, and no text.

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
        message["content"] = control.neutralize(message["content"])
    return messages


class ControlTokens:
    """The control tokens of a model's tokenizer.

    Args:
        tokens: Their names.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        known = {token for token in tokens if len(token) > 1} - set(TAGS.values())
        longest_first = sorted(known, key=len, reverse=True)
        inner = "|".join(re.escape(t[0]) + r"\\*" + re.escape(t[1:]) for t in longest_first)
        self._pattern = re.compile(inner) if known else None

    @classmethod
    def of_model(cls, model: Path) -> "ControlTokens":
        """Read them from a model folder.

        Raises:
            InputError: If its tokenizer cannot be read.
        """
        tokens: set[str] = set()
        for name in ("tokenizer_config.json", "tokenizer.json"):
            path = model / name
            if path.is_file():
                try:
                    tokens |= _special(orjson.loads(path.read_bytes()))
                except (ValueError, TypeError, AttributeError, KeyError) as e:
                    raise InputError(f"{path}: not a tokenizer's description: {e}") from e
        return cls(tokens)

    def neutralize(self, text: str) -> str:
        """Return a text in which no control token is left."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda m: f"{m[0][0]}\\{m[0][1:]}", text)

    def restore(self, text: str) -> str:
        """Undo :meth:`neutralize`."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda m: m[0][0] + m[0][2:] if m[0][1] == "\\" else m[0], text)


def _special(values: dict[str, Any]) -> set[str]:
    listed = values.get("added_tokens") or list((values.get("added_tokens_decoder") or {}).values())
    return {t["content"] for t in listed if t.get("special") or t["content"].startswith("<|")}
