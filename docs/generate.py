"""Write the tables of the documents that come from the code: settings, stages, rewards, recipes.

``python docs/generate.py`` fills in what stands between ``<!-- generated: NAME -->`` and
``<!-- end: NAME -->``; with ``--check`` it changes nothing and exits with 1 when a file is not up
to date. Neither torch nor ms-swift is needed.
"""

import argparse
import inspect
import json
import math
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from components.download.config import ModelSettings
from components.download.tiny.sets import KINDS
from components.download.tiny.settings import TinyModelSettings
from omnistage.cluster.settings import LaunchSettings
from omnistage.errors import InputError
from omnistage.recipe.document import find_recipe, read_recipe, shipped_recipes, validate
from omnistage.rewards import METRIC_NAMES, RANGES, REQUIRED_VARIABLES, REWARDS
from omnistage.stage.contract import Stage, always
from pipelines.graph import Graph, Step, graph_of
from pipelines.post_training import parameters as pipeline_parameters
from pipelines.recipe import DataSet, Recipe
from pipelines.steps import STAGES, STEP_SETTINGS

ROOT = Path(__file__).resolve().parent.parent
_SETTING = ("setting", "type", "default", "counts", "what it is")
_TOP = {"name": True, "description": False, "pipeline": True, "seed": True, "tiny": False}
"""Settings of a recipe's top, and whether they count: the name is the title of reports, the seed is
handed down."""
_PLAIN = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "none",
    Any: "any value",
}
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass
class Variant:
    """A settings class that stands inside a list or is one of several."""

    model: type[BaseModel]
    where: list[str]
    counts: bool = True


def settings() -> str:
    """Return a table for each section of a recipe and for each class inside its lists."""
    variants: dict[str, Variant] = {}
    parts = ["### The top of a recipe", ""]
    parts += _table(_SETTING, (_row(Recipe.model_fields[n], n, counts=c) for n, c in _TOP.items()))
    for name, about, prefix, model in _sections():
        counts = model is not LaunchSettings
        rows = _table(_SETTING, _rows(model, prefix, variants, counts))
        parts += ["", f"### `{name}`", "", *([about, ""] if about else []), *rows]
    for model, where in (
        *(
            (kind.settings, f"`settings` of `type: tiny` with `kind: {name}`")
            for name, kind in KINDS.items()
        ),
        (TinyModelSettings, "`settings` of `type: tiny` in `model.sources`"),
    ):
        variants[model.__name__] = Variant(model, [where])
    parts += ["", "### Inside lists", "", "What the entries of the lists above may hold."]
    shown: dict[str, list[str]] = {}
    while len(shown) < len(variants):  # showing one may find others inside it
        name = next(n for n in variants if n not in shown)
        variant = variants[name]
        rows = _rows(variant.model, "", variants, variant.counts, _kind(variant))
        shown[name] = _table(_SETTING, rows)
    for name, table in shown.items():
        variant = variants[name]
        parts += ["", f"**{_title(variant)}** (in {' and '.join(variant.where)})", "", *table]
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, str, str, type[BaseModel]]]:
    """Yield heading, introduction, prefix of the settings' names, and class of each section."""
    yield "data", "Of each data set, by its name.", "data.NAME", DataSet
    yield "model", "", "model", ModelSettings
    yield "other_models", "Of each other model, by its name.", "other_models.NAME", ModelSettings
    for model in STEP_SETTINGS:
        stage = model.model_fields["stage"].default
        about = (
            f"A step of `stage: {stage}`; its settings are named here as those of a step that is "
            f"called `{stage}`."
        )
        yield stage, about, stage, model
    yield "cluster", "", "cluster", LaunchSettings


def stages() -> str:
    """Return the table of stages: inputs, output and where each runs."""
    rows = []
    for name, stage in STAGES.items():
        inputs = []
        for given in stage.inputs:
            kinds = " or ".join(stage.kinds(given))
            many = ", several" if given in stage.several else ""
            inputs.append(f"`{given}`: {kinds}{many}{' or none' * (given in stage.optional)}")
        made = " or ".join(dict.fromkeys((stage.kind, *_other_kinds(stage))))
        libraries = ", ".join(stage.libraries)
        images = "launcher, trainer" if stage.launched is always else "launcher"
        rows.append((f"`{name}`", "; ".join(inputs) or "–", made, images, libraries or "–"))
    head = ("stage", "inputs", "output", "images", "libraries whose version counts")
    return "\n".join(_table(head, rows))


def _other_kinds(stage: Stage[Any]) -> Iterator[str]:
    if stage.choose_kind:
        yield from (stage.kind_of(stage.config(tuner=tuner)) for tuner in ("lora", "full"))


def rewards() -> str:
    """Return the table of rewards: name, range, what it pays for."""
    rows = []
    for name, function in REWARDS.items():
        low, high = RANGES[name]
        about = (inspect.getdoc(function) or "").split("\n\n")[0].replace("``", "`")
        variables = " and ".join(f"`{v}`" for v in REQUIRED_VARIABLES.get(name, ()))
        if variables:
            about += f" Needs {variables} in the environment."
        span = "the server's" if math.isinf(high) else f"{low:g} … {high:g}"
        rows.append((f"`{name}`", span, f"`{METRIC_NAMES[name]}`", about))
    return "\n".join(_table(("reward", "range", "curve", "what it pays for"), rows))


def recipes() -> str:
    """Return the table of the recipes that come with omnistage."""
    rows = [
        (f"[`{name}`](../recipes/{path.name})", read_recipe(path).values.get("description", ""))
        for name, path in shipped_recipes().items()
    ]
    return "\n".join(_table(("recipe", "what it is"), rows))


def pictures() -> str:
    """Return a picture of each recipe's steps in Mermaid; recipes of the same steps share one."""
    drawn: dict[str, list[str]] = {}
    for name, path in shipped_recipes().items():
        graph = graph_of(validate(read_recipe(path), Recipe))
        drawn.setdefault(_picture(graph), []).append(f"`{name}`")
    parts = [f"{', '.join(names)}:\n\n{picture}" for picture, names in drawn.items()]
    return "\n\n".join(parts)


def _picture(graph: Graph) -> str:
    """Return a graph in Mermaid. That training and evaluation read the media too is left out."""
    named = {n: step.stage.name for n, step in graph.items() if not n.startswith(step.stage.name)}
    lines = [f'  {name}["{name} ({stage})"]' for name, stage in named.items()]
    for name, step in graph.items():
        sources = [s for given, s in step.sources.items() if not _is_media(step, given)]
        lines += [f"  {source} --> {name}" for source in dict.fromkeys(sources)]
    return "\n".join(["```mermaid", "flowchart LR", *lines, "```"])


def _is_media(step: Step, given: str) -> bool:
    """Whether an input is the data set itself beside its records."""
    return "records" in step.sources and given.startswith("data")


def parameters() -> str:
    """Return the table of the parameters of a submitted run."""
    kinds = {str: "text", int: "whole number"}
    graph = graph_of(validate(read_recipe(find_recipe("omnicritic-3b")), Recipe))
    rows = [(f"`{p.name}`", kinds[p.kind], p.about) for p in pipeline_parameters(graph, "")]
    return "\n".join(_table(("parameter", "type", "what it is"), rows))


BLOCKS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "docs/recipes.md": {"recipes": recipes, "pictures": pictures, "settings": settings},
    "docs/rewards.md": {"rewards": rewards},
    "docs/architecture.md": {"stages": stages},
    "docs/kubeflow.md": {"parameters": parameters},
}
"""File to the generated blocks in it."""


def filled_in(text: str, blocks: Mapping[str, Callable[[], str]], where: str) -> str:
    """Return a document with its generated blocks made anew.

    Raises:
        InputError: If a block's two markers are not there, once each and in order.
    """
    for name, make in blocks.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise InputError(f"{where}: expected {begin} and {end} once, in this order")
        block = f"{begin}\n\n{make()}\n\n{end}"
        text = pattern.sub(lambda _, block=block: block, text)
    return text


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Write or check the documents and return the exit code.

    Args:
        arguments: The command line; ``sys.argv`` by default.
        root: Folder that the documents are in.
    """
    parser = argparse.ArgumentParser(description="Fill in the generated parts of the documents.")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 on a difference"
    )
    options = parser.parse_args(arguments)
    stale = []
    try:
        for name, blocks in BLOCKS.items():
            path = root / name
            before = path.read_text()
            after = filled_in(before, blocks, name)
            if after != before:
                stale.append(name)
                if not options.check:
                    path.write_text(after)
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    if options.check and stale:
        print(
            f"not up to date with the code: {', '.join(stale)}; run `make format` and commit",
            file=sys.stderr,
        )
        return 1
    return 0


def _rows(
    model: type[BaseModel],
    prefix: str,
    variants: dict[str, Variant],
    counts: bool,
    inside: str = "",
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each setting; those of a section inside follow it with a dotted name."""
    for name, field in model.model_fields.items():
        if inside and name == "type":
            continue  # the title says it
        dotted = f"{prefix}.{name}" if prefix else name
        extra = field.json_schema_extra
        kept = counts and not (isinstance(extra, dict) and extra.get("operational"))
        section = _class(field.annotation)
        if section is None or section is not field.annotation:
            yield _row(field, dotted, counts=kept)
        if section is not None:
            yield from _rows(section, dotted, variants, kept)
            continue
        where = f"`{dotted}` of {inside}" if inside else f"`{dotted}`"
        for found in _models(field.annotation):
            variant = variants.setdefault(found.__name__, Variant(found, [], kept))
            if where not in variant.where:
                variant.where.append(where)


def _row(field: FieldInfo, dotted: str, *, counts: bool) -> tuple[str, ...]:
    return (
        f"`{dotted}`",
        _type(field.annotation, field.metadata),
        "required" if field.is_required() else _default(field),
        "yes" if counts else "no",
        field.description or "",
    )


def _class(annotation: Any) -> type[BaseModel] | None:
    """Return the settings class of a section, also of one that may be left out."""
    inner = [a for a in get_args(annotation) if a is not type(None)]
    if get_origin(annotation) in (Union, types.UnionType) and len(inner) == 1:
        annotation = inner[0]
    return annotation if _is_model(annotation) else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the settings classes anywhere inside an annotation."""
    if _is_model(annotation):
        return [annotation]
    return [m for inner in get_args(annotation) for m in _models(inner)]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _kind(variant: Variant) -> str:
    kind = variant.model.model_fields.get("type")
    return f"`type: {get_args(kind.annotation)[0]}`" if kind else variant.model.__name__


def _title(variant: Variant) -> str:
    about = (variant.model.__doc__ or "").split("\n")[0].rstrip(".")
    return f"{_kind(variant)}: {about}" if "type" in variant.model.model_fields else about


def _type(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN:
        return _PLAIN[annotation] + _bounds(metadata)
    if hasattr(annotation, "__metadata__"):
        return _type(inner[0], annotation.__metadata__)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        said = [_type(a, metadata) for a in inner if a is not type(None)]
        return " or ".join([*dict.fromkeys(said), *["none"] * (type(None) in inner)])
    if origin is list:
        return f"list of {'entries' if _models(inner[0]) else _type(inner[0])}"
    if origin is dict:
        return f"mapping to {_type(inner[1])}"
    return "section" if _is_model(annotation) else str(annotation)


def _bounds(metadata: Iterable[Any]) -> str:
    signs = [
        f"{sign} {getattr(limit, name):g}"
        for limit in metadata
        for name, sign in _SIGNS.items()
        if hasattr(limit, name)
    ]
    return f" {', '.join(signs)}" if signs else ""


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:.4g}`"
    if isinstance(value, dict):
        return ", ".join(f"`{k}: {_plain(v)}`" for k, v in value.items()) or "empty"
    if isinstance(value, list):
        return ", ".join(f"`{v}`" for v in value) or "empty"
    return f"`{value}`" if value != "" else "empty"


def _plain(value: Any) -> str:
    if not isinstance(value, BaseModel):
        return str(value)
    given = value.model_dump(mode="json", exclude_unset=True)
    return json.dumps(given).replace('"', "")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(map(_cell, cells)) + " |"

    return [line(head), "|" + " --- |" * len(head), *map(line, rows)]


def _cell(text: str) -> str:
    """Return a table cell: outside code, nothing of it is taken for Markdown or HTML."""
    parts = text.replace("\n", " ").replace("|", "\\|").split("`")
    for n in range(0, len(parts), 2):
        parts[n] = re.sub(r"(\*|<(?=[\w/]))", r"\\\1", parts[n])
    return "`".join(parts)


if __name__ == "__main__":
    raise SystemExit(main())
