"""Recipes: YAML files that name a pipeline and set its stages.

Every value keeps the place it came from, ``tiny.yaml:12`` or ``--set grpo.seed``, so that what is
wrong with it can be said with that place. Scalars follow the core schema of YAML 1.2: ``1e-5`` is
a number, ``no`` and ``2024-01-01`` are text.
"""

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
import yaml.composer
from pydantic import BaseModel, ValidationError

from omnistage.errors import InputError
from omnistage.recipe_errors import Loc, dotted, nearest, problems, secrets

M = TypeVar("M", bound=BaseModel)

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


@dataclass
class Document:
    """The values of a recipe and where each of them stands."""

    where: str
    """The file, for messages."""
    values: dict[str, Any]
    places: dict[Loc, str] = field(default_factory=dict)
    """Path of a value to ``file:line`` or to the ``--set`` it came from."""

    def place(self, loc: Loc) -> str:
        """Return where the value at ``loc``, or the nearest section around it, was written."""
        while loc and loc not in self.places:
            loc = loc[:-1]
        return self.places.get(loc, self.where)


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with omnistage, by name."""
    return {
        Path(entry.name).stem: Path(str(entry))
        for entry in sorted(files("recipes").iterdir(), key=lambda e: e.name)
        if entry.name.endswith(".yaml")
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


def read_recipe(path: Path, overrides: Iterable[str] = ()) -> Document:
    """Read a recipe file and put the ``--set`` values over it.

    Args:
        path: The YAML file.
        overrides: Each ``a.b=value``, its value written in YAML.

    Raises:
        InputError: If the file is not YAML, gives a key twice or is not a mapping, or if an
            override is not of that form; the message says the line.
    """
    where = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
    try:
        text = path.read_bytes().decode()
    except OSError as e:
        raise InputError(f"{where}: cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise InputError(f"{where}: not UTF-8 text (byte {e.start})") from e
    document = parse_recipe(text, where)
    for override in overrides:
        document = with_override(document, override)
    return document


def parse_recipe(text: str, where: str) -> Document:
    """Parse the text of a recipe.

    Raises:
        InputError: With the line, if it is not YAML, gives a key twice or is not a mapping.
    """
    document = Document(where, {})
    values = _parse(text, where, lambda line: f"{where}:{line}", document.places)
    if not isinstance(values, dict):
        raise InputError(f"{where}: a recipe is a mapping of sections, such as 'name: mine'")
    document.values = values
    return document


def with_override(document: Document, override: str) -> Document:
    """Return the document with one value set from the command line.

    Args:
        document: The recipe; not changed.
        override: ``a.b=value``; a number in the path indexes a list; the value is YAML.

    Raises:
        InputError: If it is not of that form or goes through something that is not a section.
    """
    name, equals, text = override.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"--set {name}: expected section.setting=value")
    said = f"--set {name.strip()}"
    loc: Loc = ()
    new = copy.deepcopy(document)
    target: Any = new.values
    for depth, part in enumerate(parts):
        index = _index(target, part, said, dotted(loc))
        loc = (*loc, index)
        if depth == len(parts) - 1:
            new.places = {k: v for k, v in new.places.items() if k[: len(loc)] != loc}
            target[index] = _parse(text, said, lambda _: said, new.places, loc)
            new.places[loc] = said
        elif isinstance(target, dict) and target.get(index) is None:
            target[index] = {}
            new.places[loc] = said
        target = target[index]
    return new


def validate(document: Document, model: type[M]) -> M:
    """Turn a recipe into the pipeline's settings.

    Raises:
        InputError: One line for each wrong, unknown or missing key: file, line, key, what is
            allowed; secrets in a recipe are refused without repeating them.
    """
    hidden = secrets(document.values, model)
    if hidden:
        raise InputError(
            "\n".join(
                f"{document.place(loc)}: {dotted(loc)}: a recipe holds no secrets; {advice}"
                for loc, advice in hidden
            )
        )
    try:
        return model.model_validate(document.values)
    except ValidationError as e:
        found = problems(e, document.values, model)
        raise InputError("\n".join(f"{document.place(loc)}: {say}" for loc, say in found)) from e


def _index(target: Any, part: str, said: str, section: str) -> str | int:
    if isinstance(target, dict):
        return part
    if isinstance(target, list):
        if part.isdecimal() and int(part) < len(target):
            return int(part)
        raise InputError(f"{said}: {section} is a list of {len(target)}: give an index, not {part}")
    raise InputError(f"{said}: {section} is a single value and has no setting {part!r}")


class _Loader(yaml.SafeLoader):
    """Composes the nodes of a recipe; aliases are refused, so a small file stays small."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 (PyYAML's own attribute)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, "anchors and aliases are not used in recipes", event.start_mark
            )
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    _anchored = re.compile(rf"(?:{_pattern.pattern})\Z")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _anchored, _first)


def _parse(text: str, where: str, place: Any, places: dict[Loc, str], loc: Loc = ()) -> Any:
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        return None if node is None else _build(node, place, places, loc)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        at = place(mark.line + 1) if mark else where
        what = ": ".join(part for part in (e.context, e.problem) if part)
        raise InputError(f"{at}: not valid YAML: {what}") from e
    except yaml.YAMLError as e:
        raise InputError(f"{where}: not valid YAML: {str(e).splitlines()[0]}") from e
    except RecursionError as e:
        raise InputError(f"{where}: nested too deeply") from e


def _build(node: Any, place: Any, places: dict[Loc, str], loc: Loc) -> Any:
    """Return the value of a node and note the place of everything in it."""
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            places[(*loc, i)] = place(item.start_mark.line + 1)
        return [_build(item, place, places, (*loc, i)) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node, place)
    mapping: dict[str, Any] = {}
    for key_node, value in node.value:
        at = place(key_node.start_mark.line + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            raise InputError(f"{at}: a key is a plain word")
        key = key_node.value
        if key in mapping:
            raise InputError(
                f"{at}: {dotted((*loc, key))} is given twice; first at {places[(*loc, key)]}"
            )
        places[(*loc, key)] = at
        mapping[key] = _build(value, place, places, (*loc, key))
    return mapping


def _scalar(node: Any, place: Any) -> Any:
    text, tag = node.value, node.tag.removeprefix("tag:yaml.org,2002:")
    try:
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() == "true"
        if tag == "int":
            return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
        if tag == "float":
            return float(re.sub(r"\.(?=[iInN])", "", text))
    except ValueError as e:
        raise InputError(f"{place(node.start_mark.line + 1)}: {text[:40]!r}: {e}") from e
    if tag != "str":
        raise InputError(f"{place(node.start_mark.line + 1)}: tag {node.tag!r} is not known here")
    return text
