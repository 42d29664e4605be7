"""Arguments for ms-swift, checked against its own argument classes before anything is launched."""

import difflib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from omnistage.errors import InputError
from omnistage.files import read_json
from omnistage.swift.schema import PATH

Command = Literal["sft", "rlhf"]


def check_arguments(command: Command, arguments: Mapping[str, Any], where: str) -> None:
    """Check names and types of arguments.

    Args:
        command: ms-swift's sub-command.
        arguments: Name to value; ``None`` means the argument is left out.
        where: The recipe field named in the error.

    Raises:
        InputError: For an argument ms-swift does not know, with the nearest one it does, or a
            value that is of no type it takes.
    """
    known = _known()[command]
    for name, value in arguments.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{where}.{name}: `swift {command}` has no such argument{hint}")
        allowed = known[name]
        if value is not None and allowed and not any(_fits(value, kind) for kind in allowed):
            raise InputError(
                f"{where}.{name}: {value!r} is not what `swift {command}` takes: {_words(allowed)}"
            )


def command_line(arguments: Mapping[str, Any]) -> list[str]:
    """Return arguments as ``--name value`` words; ``None`` is left out."""
    words = []
    for name, value in arguments.items():
        if value is None:
            continue
        words.append(f"--{name}")
        if isinstance(value, bool):
            words.append(str(value).lower())
        elif isinstance(value, list | tuple):
            words += map(str, value)
        elif isinstance(value, dict):
            words.append(json.dumps(value))
        else:
            words.append(str(value))
    return words


@cache
def _known() -> dict[str, dict[str, list[Any]]]:
    return read_json(PATH)


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, dict):
        return value in kind["choices"]
    types: dict[str, Any] = {
        "bool": bool,
        "int": int,
        "float": (int, float),
        "str": str,
        "list": (list, tuple, str, int, float),  # one word is a list of one
        "dict": dict,
    }
    if kind != "bool" and isinstance(value, bool):
        return False
    return isinstance(value, types[kind])


def _words(allowed: list[Any]) -> str:
    return " or ".join(
        "one of " + ", ".join(map(repr, kind["choices"])) if isinstance(kind, dict) else kind
        for kind in allowed
    )
