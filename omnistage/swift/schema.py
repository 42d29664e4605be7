"""Write ``arguments.json``: the names and types of ms-swift's command-line arguments.

``python -m omnistage.swift.schema`` makes it anew from ms-swift's own argument classes; a test
holds it to the installed version. With it a recipe is checked in milliseconds, on machines
without ms-swift too, where importing ms-swift takes ten seconds and more.
"""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any

from omnistage.files import write_json

PATH = Path(__file__).with_name("arguments.json")


def describe(annotation: Any) -> list[Any]:
    """Return the JSON types and literal values that an annotation allows; empty is anything."""
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return [{"choices": list(typing.get_args(annotation))}]
    if origin in (typing.Union, types.UnionType):
        parts = [describe(a) for a in typing.get_args(annotation) if a is not type(None)]
        return [] if [] in parts else [t for part in parts for t in part]
    plain = {bool: "bool", int: "int", float: "float", str: "str"}
    if annotation in plain:
        return [plain[annotation]]
    if (origin or annotation) in (list, tuple, set):
        return ["list"]
    if (origin or annotation) is dict:
        return ["dict"]
    return []


def schema() -> dict[str, dict[str, list[Any]]]:
    """Return, for ``sft`` and ``rlhf``, each argument's name and allowed types."""
    from swift.arguments import RLHFArguments, SftArguments

    return {
        command: {
            f.name: describe(f.type)
            for f in sorted(dataclasses.fields(cls), key=lambda f: f.name)
            if f.init
        }
        for command, cls in (("sft", SftArguments), ("rlhf", RLHFArguments))
    }


if __name__ == "__main__":
    write_json(PATH, schema())
