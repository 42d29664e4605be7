"""``omnistage rewards``: list them, score completions with them, try to cheat a mix of them."""

import argparse
import inspect
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omnistage.cli.options import add_command
from omnistage.errors import InputError

_COMPLETION = ("completion", "response", "prediction")


def add_rewards_command(commands: Any) -> None:
    """Add ``rewards`` with its sub-commands to those of the program."""
    rewards = commands.add_parser("rewards", help="list, score with and audit rewards")
    verbs = rewards.add_subparsers(required=True, metavar="COMMAND")

    add_command(verbs, "list", _list, "every reward with its range and what it pays for")

    mixes = "recipes (shipped names or paths), or rewards as NAME or NAME=WEIGHT"
    score = add_command(verbs, "score", _score, "what rewards pay for completions in a file")
    score.add_argument(
        "file",
        type=Path,
        help="JSON Lines: a completion and its record's columns a line, or a run's completions",
    )
    score.add_argument("mix", nargs="+", help=mixes)

    audit = add_command(verbs, "audit", _audit, "try to cheat a mix of rewards")
    audit.add_argument("mix", nargs="*", help=f"{mixes} (default: the shipped recipes)")


def _list(_: argparse.Namespace) -> None:
    from rich.table import Table

    from omnistage.rewards import RANGES, REQUIRED_VARIABLES, REWARDS

    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("reward", "range", "what it pays for"):
        table.add_column(heading)
    for name, function in REWARDS.items():
        low, high = RANGES[name]
        about = (inspect.getdoc(function) or "").split("\n")[0].replace("``", "")
        needs = "".join(f"; needs {v}" for v in REQUIRED_VARIABLES.get(name, ()))
        span = "the server's" if math.isinf(high) else f"{low:g} … {high:g}"
        table.add_row(name, span, about + needs)
    _console().print(table)


def _score(options: argparse.Namespace) -> None:
    from omnistage.rewards import REWARDS

    rows = list(_rows(options.file))
    if not rows:
        raise InputError(f"{options.file}: there are no completions")
    absent = next((n for n, row in enumerate(rows, 1) if row["completion"] is None), None)
    if absent is not None:
        raise InputError(f"{options.file}: completion {absent} is null")
    mixes = _mixes(options.mix)
    weights = {name: weight for mix in mixes.values() for name, weight in mix.items()}
    names = sorted({key for row in rows for key in row})
    columns = {name: [row.get(name) for row in rows] for name in names}
    completions = [str(text or "") for text in columns.pop("completion", ())]
    values = {name: REWARDS[name](completions, **columns) for name in weights}
    for number in range(len(rows)):
        paid = {name: of[number] for name, of in values.items()}
        total = sum(weights[name] * (value or 0.0) for name, value in paid.items())
        print(json.dumps({"line": number + 1, "total": round(total, 6), **paid}))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a completion with its columns a row, of either layout."""
    from omnistage.files import read_jsonl

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    for number, row in enumerate(read_jsonl(path), 1):
        name = next((name for name in _COMPLETION if name in row), None)
        if name is None:
            raise InputError(f"{path}:{number}: there is no {' or '.join(_COMPLETION)}")
        texts = row[name]
        if not isinstance(texts, list):
            yield {**{k: v for k, v in row.items() if k != name}, "completion": texts}
            continue
        # A step's table in a run's completions.jsonl, a list a column, or samples of one record.
        for i, text in enumerate(texts):
            columns = {
                k: v[i] if isinstance(v, list) and len(v) == len(texts) else v
                for k, v in row.items()
                if k != name
            }
            yield {**columns, "completion": text}


def _audit(options: argparse.Namespace) -> int:
    from rich.table import Table

    from omnistage.rewards.audit import HONEST_RIGHT, HONEST_WRONG, audit

    cheated = False
    for where, mix in _mixes(options.mix or _trained_by_rewards()).items():
        findings = audit(mix)
        table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
        table.title = f"{where}: {', '.join(f'{n} {w:g}' for n, w in mix.items())}"
        for heading in ("task", "completion", "pays", "honest wrong", "part that pays"):
            table.add_column(heading, justify="right" if heading.startswith(("p", "h")) else "left")
        for found in findings:
            if found.cheats or found.name in (HONEST_RIGHT, HONEST_WRONG):
                pays, honest = f"{found.pays:.3f}", f"{found.honest:.3f}"
                table.add_row(found.task, found.name, pays, honest, found.part)
        paying = [found for found in findings if found.cheats]
        console = _console()
        console.print(table)
        tried = len(findings) - sum(f.name in (HONEST_RIGHT, HONEST_WRONG) for f in findings)
        console.print(f"{len(paying)} of {tried} cheats pay more than an honest wrong answer\n")
        cheated = cheated or bool(paying)
    return 1 if cheated else 0


def _trained_by_rewards() -> list[str]:
    """Return the shipped recipes that name rewards."""
    from omnistage.recipe.document import find_recipe, read_recipe, shipped_recipes

    values = {name: read_recipe(find_recipe(name)).values for name in shipped_recipes()}
    return [name for name, found in values.items() if any(_weights_in(found, name))]


def _mixes(named: list[str]) -> dict[str, dict[str, float]]:
    """Return the mixes that recipes and rewards on the command line mean, by what they are called.

    Raises:
        InputError: If a recipe names no rewards, or a reward or weight is wrong.
    """
    from omnistage.recipe.document import find_recipe, read_recipe
    from omnistage.rewards import REWARDS, register
    from omnistage.rewards.own import OWN, with_code

    mixes: dict[str, dict[str, float]] = {}
    given: dict[str, float] = {}
    for name in named:
        reward, _, weight = name.partition("=")
        if reward in REWARDS or OWN.fullmatch(reward):
            given[reward] = _number(weight or "1", name)
            continue
        found = dict(_weights_in(read_recipe(find_recipe(name)).values, name))
        if not found:
            raise InputError(f"{name}: this recipe names no reward_weights")
        mixes |= found
    if given:
        mixes["the command line"] = given
    for where, mix in mixes.items():
        try:
            section = with_code({"reward_weights": mix})
        except ValueError as e:
            raise InputError(f"{where}: {e}") from e
        register(section.get("reward_code", {}))
        mixes[where] = section["reward_weights"]
    return mixes


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as e:
        raise InputError(f"{name}: {text!r} is no weight") from e


def _weights_in(values: Any, where: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield every ``reward_weights`` of a recipe with its place, whichever step it belongs to."""
    for key, value in values.items() if isinstance(values, Mapping) else ():
        if key == "reward_weights" and isinstance(value, Mapping):
            yield where, dict(value)
        else:
            yield from _weights_in(value, f"{where}: {key}")


def _console() -> Any:
    from rich.console import Console

    return Console(soft_wrap=True)
