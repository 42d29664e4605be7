"""The model card: where a model comes from, what it learned from, how, and how good it was."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from omnistage.store.manifest import Manifest
from omnistage.swift.export.model import Trained, source_of, steps_below
from omnistage.swift.family import Family

_PRIVATE = ("reward_code", "judge")
"""Settings that are not for others: code of the author's, addresses of their servers."""


def card(what: Trained, family: Family, merged: bool, command: str) -> str:
    """Return the card as Markdown with the front matter that hubs read.

    Args:
        what: The step's result.
        family: The model's.
        merged: Whether an adapter was merged into the weights.
        command: Serves it.
    """
    return "\n".join(_lines(what, family, merged, command)) + "\n"


def _lines(what: Trained, family: Family, merged: bool, command: str) -> Iterator[str]:
    alone = what.is_adapter and not merged
    base = what.published_base
    head: dict[str, Any] = {"library_name": "peft" if alone else "transformers"}
    if base:
        head["base_model"] = base
    head["tags"] = ["omnistage", "ms-swift", what.made.stage]
    yield f"---\n{yaml.safe_dump(head, sort_keys=False).strip()}\n---"
    kind = "LoRA adapter" if alone else "model, its adapter merged" if merged else "model"
    yield f"\n# {what.recipe}: {what.step}\n"
    yield (
        f"A {kind} of {base or family.title}, trained by `{what.made.stage}` of the recipe "
        f"`{what.recipe}` with omnistage {what.made.produced_by.get('omnistage', '?')}."
    )
    yield "\n## What it is made of\n"
    yield "| stage | key | digest | records | steps |\n| --- | --- | --- | --- | --- |"
    for made in steps_below(what):
        counts = [str(made.counts.get(name, "–")) for name in ("records", "steps")]
        yield f"| {made.stage} | `{made.key}` | `{made.digest}` | {' | '.join(counts)} |"
    yield "\n## What went in\n"
    yield from _inputs(what.made)
    yield "\n## How good it was\n"
    yield from _figures(what)
    yield "\n## How it was trained\n"
    yield from _settings(what)
    yield f"\n## How to serve it\n\n```sh\n{command}\n```"


def _inputs(made: Manifest) -> Iterator[str]:
    """Yield a line for each input by its digest; a path of somebody's machine says nothing."""
    for name, told in made.produced_by.get("inputs", {}).items():
        source = source_of(told)
        yield f"- {name}: `{told['digest']}`{f' ({source})' if source else ''}"


def _figures(what: Trained) -> Iterator[str]:
    """Yield the headline of each evaluation of the run that asked this model."""
    told = [report.metadata.get("headline", {}) for report in what.reports]
    told = [headline for headline in told if what.step in headline.get("models", {})]
    if not told:
        yield "It was not evaluated in this run."
    for headline in told:
        yield f"{headline.get('task')}, {headline['metric']}, {headline.get('records')} records:\n"
        yield "| model | value | 95% interval |\n| --- | --- | --- |"
        for name, found in headline["models"].items():
            yield f"| {name} | {_number(found, 'value')} | {_interval(found)} |"
        constant = headline.get("constant")
        if constant:
            yield f"| {constant['name']} (constant) | {_number(constant, 'value')} | – |"
        yield ""


def _number(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return "–" if value is None else f"{value:.4f}"


def _interval(found: Mapping[str, Any]) -> str:
    if found.get("low") is None:
        return "–"
    return f"{_number(found, 'low')} … {_number(found, 'high')}"


def _settings(what: Trained) -> Iterator[str]:
    config = {k: v for k, v in what.config.items() if k not in _PRIVATE and v is not None}
    libraries = what.made.produced_by.get("libraries", {})
    versions = ", ".join(f"{name} {version}" for name, version in libraries.items())
    yield f"Libraries: {versions or 'not recorded'}.\n"
    yield f"```yaml\n{yaml.safe_dump(config, sort_keys=False).strip()}\n```"
