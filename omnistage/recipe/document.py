"""Recipes: YAML files that name a pipeline and set its stages.

Every value keeps the place it came from, ``tiny.yaml:12`` or ``--set grpo.seed``, so that what is
wrong with it can be said with that place. Scalars follow the core schema of YAML 1.2: ``1e-5`` is
a number, ``no`` and ``2024-01-01`` are text.
"""

import copy
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.resolver import VersionedResolver

from omnistage.errors import InputError
from omnistage.recipe.errors import dotted, nearest, problems, secrets
from omnistage.recipe.schema import Loc, field_at

M = TypeVar("M", bound=BaseModel)

SET = "--set"
_MAX_VALUES = 10_000
_TAG = "tag:yaml.org,2002:"


@dataclass
class Document:
    """The values of a recipe and where each of them stands."""

    where: str
    """The file, for messages."""
    values: dict[str, Any]
    places: dict[Loc, str] = field(default_factory=dict)
    """Path of a value to ``file:line`` or, where it comes from the command line, ``--set``."""

    def say(self, loc: Loc, what: str) -> str:
        """Return a message about the value at ``loc``, with the place it was written at.

        For one that is missing this is the place of the nearest section around it.
        """
        known = loc
        while known and known not in self.places:
            known = known[:-1]
        place = self.places.get(known, self.where)
        name = f"{dotted(loc)}: " if loc else ""
        return f"{SET} {name}{what}" if place == SET else f"{place}: {name}{what}"


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with omnistage, by name."""
    return {
        Path(entry.name).stem: Path(str(entry))
        for entry in sorted(files("recipes").iterdir(), key=lambda e: e.name)
        if entry.name.endswith(".yaml") and not entry.name.endswith(".bars.yaml")
    }


def find_recipe(source: str) -> Path:
    """Return the file of a recipe.

    Args:
        source: A path, which has a ``/`` or ends in ``.yaml`` or ``.yml``, or a shipped name.

    Raises:
        InputError: If there is no such file or name.
    """
    path = Path(source)
    if "/" in source or path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise InputError(f"{source}: no such recipe file")
        return path
    shipped = shipped_recipes()
    if source not in shipped:
        hint = nearest(source, shipped) or f"there are: {', '.join(shipped)}"
        raise InputError(
            f"no recipe {source!r}; {hint} (a file of yours is given as a path: ./mine.yaml)"
        )
    return shipped[source]


def find_twin(path: Path, document: Document) -> Path:
    """Return the file of a recipe's tiny twin.

    Args:
        path: The recipe's own file.
        document: What it says.

    Raises:
        InputError: If it names none, or one that is not there.
    """
    named = document.values.get("tiny")
    if not isinstance(named, str) or not named:
        raise InputError(f"{document.where}: it has no tiny twin; tiny: names the file of one")
    twin = path.parent / named
    if not twin.is_file():
        raise InputError(document.say(("tiny",), f"no such recipe file: {named}"))
    return twin


def read_recipe(path: Path) -> Document:
    """Read a recipe file.

    Raises:
        InputError: If the file cannot be read, is not YAML, gives a key twice or is not a mapping;
            the message says the line.
    """
    where = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
    try:
        text = path.read_bytes().decode()
    except OSError as e:
        raise InputError(f"{where}: cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise InputError(f"{where}: not UTF-8 text (byte {e.start})") from e
    return parse_recipe(text, where)


def parse_recipe(text: str, where: str) -> Document:
    """Parse the text of a recipe.

    Raises:
        InputError: With the line, if it is not YAML, gives a key twice or is not a mapping.
    """
    document = Document(where, {})
    values = _Parser(where, lambda line: f"{where}:{line}", document.places).parse(text)
    if not isinstance(values, dict):
        raise InputError(f"{where}: a recipe is a mapping of sections, such as 'name: mine'")
    document.values = values
    return document


def with_overrides(
    document: Document,
    overrides: Iterable[str],
    model: type[BaseModel] | None = None,
    within: str = "",
) -> Document:
    """Return the document with values set from the command line.

    Args:
        document: The recipe; not changed.
        overrides: Each ``a.b=value``; a number in the path indexes a list; the value is YAML.
        model: The settings, whose default mappings are what ``--set`` changes one entry of where
            the recipe does not give the mapping itself.
        within: A section whose own sections may be named without it: of ``steps`` it is
            ``sft.epochs`` for ``steps.sft.epochs``.

    Raises:
        InputError: If one is not of that form or goes through something that is not a section.
    """
    new = copy.deepcopy(document)
    for override in overrides:
        _override(new, override, model, within)
    return new


def _override(
    document: Document, override: str, model: type[BaseModel] | None, within: str
) -> None:
    name, equals, text = override.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"--set {name}: expected section.setting=value")
    inside = document.values.get(within)
    if isinstance(inside, dict) and parts[0] in inside and parts[0] not in document.values:
        parts = [within, *parts]
    said = f"{SET} {name.strip()}"
    loc: Loc = ()
    target: Any = document.values
    for part in parts[:-1]:
        index = _index(target, part, said, dotted(loc))
        loc = (*loc, index)
        if isinstance(target, dict) and target.get(index) is None:
            field = field_at(model, loc, document.values) if model else None
            default = field.get_default(call_default_factory=False) if field else None
            target[index] = dict(default) if isinstance(default, dict) else {}
            document.places[loc] = SET
        target = target[index]
    index = _index(target, parts[-1], said, dotted(loc))
    loc = (*loc, index)
    document.places = {k: v for k, v in document.places.items() if k[: len(loc)] != loc}
    target[index] = _Parser(said, lambda _: said, document.places).parse(text, loc)
    document.places |= {k: SET for k in document.places if k[: len(loc)] == loc}
    document.places[loc] = SET


def validate(document: Document, model: type[M]) -> M:
    """Turn a recipe into the pipeline's settings.

    Raises:
        InputError: One line for each wrong, unknown or missing key: file, line, key, what is
            allowed; secrets in a recipe are refused without repeating them.
    """
    hidden = secrets(document.values, model)
    if hidden:
        refused = "a recipe holds no secrets"
        raise InputError("\n".join(document.say(loc, f"{refused}; {tip}") for loc, tip in hidden))
    try:
        return model.model_validate(document.values)
    except ValidationError as e:
        found = problems(e, document.values, model)
        raise InputError("\n".join(document.say(loc, what) for loc, what in found)) from e


def _index(target: Any, part: str, said: str, section: str) -> str | int:
    if isinstance(target, dict):
        return part
    if isinstance(target, list):
        if part.isdecimal() and int(part) < len(target):
            return int(part)
        raise InputError(f"{said}: {section} is a list of {len(target)}: give an index, not {part}")
    raise InputError(f"{said}: {section} is a single value and has no setting {part!r}")


_CORE_SCHEMA = {
    "null": (r"~|null|Null|NULL|", ("~", "n", "N", "")),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
"""Tag to its pattern and the characters that it may begin with (YAML 1.2.2, 10.3.2)."""


class _CoreSchema(VersionedResolver):
    """The core schema; ruamel's own has numbers such as ``1_000`` and timestamps besides."""

    by_first: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}
    for _name, (_pattern, _first) in _CORE_SCHEMA.items():
        for _character in _first:
            by_first.setdefault(_character, []).append(
                (_TAG + _name, re.compile(rf"(?:{_pattern})\Z"))
            )

    @property
    def versioned_resolver(self) -> Any:
        """First character of a scalar to the tags it may have, in order."""
        return self.by_first


class _Parser:
    """Turns YAML into values and notes the place of each.

    ruamel.yaml composes the nodes and constructs the scalars; mappings and lists are built here,
    so that each value, also one that an alias brings, keeps its line.

    Args:
        where: The file, for messages.
        place: Gives the place of a line.
        places: Is filled in.
    """

    def __init__(self, where: str, place: Callable[[int], str], places: dict[Loc, str]) -> None:
        self.where = where
        self.place = place
        self.places = places
        self.left = _MAX_VALUES
        self.yaml = YAML(typ="safe", pure=True)
        self.yaml.Resolver = _CoreSchema

    def parse(self, text: str, loc: Loc = ()) -> Any:
        """Return the value of a text that stands at ``loc``."""
        try:
            node = self.yaml.compose(text)
            return None if node is None else self._build(node, loc)
        except MarkedYAMLError as e:
            mark = e.problem_mark or e.context_mark
            at = self.place(mark.line + 1) if mark else self.where
            what = ": ".join(part for part in (e.context, e.problem) if part)
            raise InputError(f"{at}: not valid YAML: {what}") from e
        except YAMLError as e:
            raise InputError(f"{self.where}: not valid YAML: {str(e).splitlines()[0]}") from e
        except RecursionError as e:
            raise InputError(f"{self.where}: nested too deeply") from e

    def _build(self, node: Node, loc: Loc) -> Any:
        self.left -= 1
        if self.left < 0:  # aliases of aliases make a small file huge
            raise InputError(f"{self._at(node)}: more than {_MAX_VALUES} values")
        if isinstance(node, MappingNode):
            return self._mapping(node, loc)
        if not isinstance(node, SequenceNode):
            return self._scalar(node)
        for i, item in enumerate(node.value):
            self.places[(*loc, i)] = self._at(item)
        return [self._build(item, (*loc, i)) for i, item in enumerate(node.value)]

    def _mapping(self, node: Node, loc: Loc) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value in node.value:
            at = self._at(key_node)
            if not isinstance(key_node, ScalarNode):
                raise InputError(f"{at}: a key must be a plain word")
            here = (*loc, key_node.value)
            if key_node.value in mapping:
                first = self.places[here]
                raise InputError(f"{at}: {dotted(here)} is given twice; first at {first}")
            self.places[here] = at
            mapping[key_node.value] = self._build(value, here)
        return mapping

    def _scalar(self, node: Node) -> Any:
        if str(node.tag).removeprefix(_TAG) not in {*_CORE_SCHEMA, "str"}:
            raise InputError(f"{self._at(node)}: tag {str(node.tag)!r} is not known here")
        try:
            value = self.yaml.constructor.construct_object(node)
            if isinstance(value, str):
                value.encode()  # an escape such as \ud800 is no character, and cannot be written
            return value
        except UnicodeEncodeError as e:
            raise InputError(f"{self._at(node)}: {node.value[:40]!r} is not valid Unicode") from e
        except (ValueError, KeyError) as e:
            raise InputError(f"{self._at(node)}: {node.value[:40]!r}: {e}") from e

    def _at(self, node: Node) -> str:
        return self.place(node.start_mark.line + 1)
