"""Numbers that keep the text they have in the file: ``1.10`` is not ``1.1``."""

import json
from typing import Any

import orjson

from components.rewrite_paths.draft import RowError

_EXACT_DIGITS = 18  # whole numbers up to here are the same in every JSON reader


class Number(float):
    """A number and its text.

    Attributes:
        text: As it stands in the file.
    """

    def __new__(cls, text: str) -> "Number":
        """Read a number; one too large for a float is infinite and keeps its text."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str


def loads_exact(line: bytes) -> Any:
    """Parse JSON so that numbers other than short whole ones are :class:`Number`.

    Raises:
        ValueError: If it is not JSON.
    """
    return json.loads(line, parse_float=Number, parse_int=_whole)


def _whole(text: str) -> int | Number:
    return int(text) if len(text) <= _EXACT_DIGITS and text != "-0" else Number(text)


def count_keys(value: Any) -> int:
    """Return how many keys the objects of a parsed value have."""
    if isinstance(value, dict):
        return len(value) + sum(count_keys(v) for v in value.values() if type(v) is not str)
    if isinstance(value, list):
        return sum(count_keys(v) for v in value if type(v) is not str)
    return 0


def check_keys(line: bytes) -> None:
    """Check that no object of a JSON text has a key twice.

    Raises:
        RowError: ``bad_field``.
        ValueError: If it is not JSON.
    """
    json.loads(line, object_pairs_hook=_unique, parse_int=str)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RowError("bad_field", f"{twice[:80]}: the key stands twice in one object")
    return found


def has_float(value: Any) -> bool:
    """Whether a parsed value holds a number whose text may be another one."""
    if isinstance(value, float):
        return True
    if isinstance(value, dict):
        return any(has_float(v) for v in value.values() if type(v) is not str)
    return isinstance(value, list) and any(has_float(v) for v in value if type(v) is not str)


def raw_number(value: Any) -> orjson.Fragment:
    """Tell orjson, which knows no :class:`Number`, the text to write for one.

    Raises:
        TypeError: If it is anything else.
    """
    if isinstance(value, Number):
        return orjson.Fragment(value.text)
    raise TypeError


def json_text(value: Any) -> str:
    """Return a value as JSON text, numbers with their own."""
    if isinstance(value, Number):
        return value.text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(k)}: {json_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(json_text(v) for v in value) + "]"
    return _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
