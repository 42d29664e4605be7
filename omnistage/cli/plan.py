"""``omnistage plan``: what a recipe would take, before anything runs."""

import argparse
import os
import re
from dataclasses import asdict
from typing import Any

from omnistage.cli.options import add_command, load, recipe_arguments, store_option
from omnistage.errors import InputError

_NAMES = {"cache": "KV cache", "makes": "its result", "keeps": "checkpoints kept"}
_UNITS = {"GB": 10**9, "GIB": 2**30}


def add_plan_command(commands: Any) -> None:
    """Add the command."""
    about = "what a recipe would take: rows, steps, tokens, memory of a GPU, checkpoints"
    plan = add_command(commands, "plan", _plan, about)
    recipe_arguments(plan)
    plan.add_argument(
        "--gpu-memory",
        type=_memory,
        metavar="80GB",
        help="what a GPU has, in GB (10⁹ bytes) or GiB: say what does not fit",
    )
    plan.add_argument("--json", action="store_true", help="print JSON, sizes in bytes")


def _memory(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GB|GiB)", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: a size such as 80GB or 24GiB is needed")
    return float(found[1]) * _UNITS[found[2].upper()]


def _plan(options: argparse.Namespace) -> int:
    # Of a model that is never run, transformers' warnings are none of the reader's business.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    recipe = load(options)
    return show_plan(recipe, store_option(options), options.gpu_memory, options.json)


def show_plan(recipe: Any, store_uri: str, gpu_memory: float | None, as_json: bool) -> int:
    """Print what a recipe would take.

    Args:
        recipe: A validated recipe.
        store_uri: Where results may be.
        gpu_memory: Bytes of a GPU, to compare with.
        as_json: Print JSON and not tables.

    Returns:
        0, or 1 where a step does not fit a GPU.
    """
    from omnistage.store.open import open_store
    from pipelines.forecast import Known, forecast, geometry_or_reason
    from pipelines.graph import graph_of
    from pipelines.plan import plan

    store = open_store(store_uri)
    try:
        recipe = recipe.resolve()
    except InputError as e:
        raise InputError(f"{e}; a plan needs the folders that the recipe names") from e
    graph = graph_of(recipe)
    planned = plan(graph, list(graph), store)
    made = {p.name: p.result for p in planned if p.result}
    geometry, reason = geometry_or_reason(recipe, made)
    known = Known(recipe, graph, store, made, geometry, gpu_memory)
    forecasts = list(forecast(known))
    if as_json:
        _print_json(planned, forecasts, geometry, reason)
    else:
        _print_tables(planned, forecasts, geometry, reason)
    tight = gpu_memory and any(f.memory and f.memory.peak > gpu_memory for f in forecasts)
    return 1 if tight else 0


def _print_json(planned: Any, forecasts: Any, geometry: Any, reason: str | None) -> None:
    import orjson

    steps = []
    for made in forecasts:
        row = asdict(made)
        if made.memory:
            row["memory"]["peak"] = made.memory.peak
        steps.append(row)
    found = {
        "cached": {p.name: p.cached for p in planned},
        "parameters": dict(geometry.parameters) if geometry else None,
        "unknown": reason,
        "steps": steps,
    }
    print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())


def _print_tables(planned: Any, forecasts: Any, geometry: Any, reason: str | None) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True)
    if geometry:
        parts = ", ".join(f"{part} {n / 1e6:,.1f}" for part, n in geometry.parameters.items())
        console.print(
            f"{geometry.family.title}, {geometry.total / 1e9:.2f} billion parameters; in millions: "
            f"{parts}"
        )
    console.print(_work_table(planned, forecasts))
    if geometry:
        console.print()
        console.print(_memory_table(forecasts))
        console.print(
            "Memory is an estimate for the longest record, beside what CUDA itself takes (1 to 2 "
            "GB): see omnistage/swift/size/memory.py.",
            style="dim",
        )
    for made in forecasts:
        for finding in made.findings:
            console.print(f"{made.step}: {finding}", style="yellow", markup=False)
    if reason:
        console.print(reason, style="yellow", markup=False)


def _work_table(planned: Any, forecasts: Any) -> Any:
    from rich.table import Table

    cached = {p.name: p.cached for p in planned}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("step", "stage", "plan", "ranks", "rows", "steps", "tokens an epoch"):
        table.add_column(column, justify="left" if column in ("step", "stage") else "right")
    for made in forecasts:
        table.add_row(
            made.step,
            made.stage,
            {True: "cached", False: "run", None: "run"}[cached[made.step]],
            str(made.ranks),
            _count(made.rows),
            _count(made.steps) if made.stage != "eval" else "–",
            _tokens(made),
        )
    return table


def _count(number: int | None) -> str:
    return "not known yet" if number is None else f"{number:,}"


def _tokens(made: Any) -> str:
    if made.stage == "eval":
        return "–"
    if made.tokens is None:
        return "not known yet"
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in made.tokens["by_modality"].items())
    return f"{'about ' if made.estimated else ''}{made.tokens['total']:,} ({kinds})"


def _memory_table(forecasts: Any) -> Any:
    from rich.table import Table

    largest = max(made.memory.peak for made in forecasts if made.memory)
    unit, size = ("GB", 10**9) if largest >= 10**9 else ("MB", 10**6)
    parts = ("weights", "gradients", "optimizer", "activations", "logits", "cache", "peak")
    table = Table(box=None, pad_edge=False, header_style="dim")
    told = [made for made in forecasts if made.memory]
    table.add_column(f"{unit} of a rank")
    for made in told:
        table.add_column(made.step, justify="right")
    for part in parts:
        values = [getattr(made.memory, part) / size for made in told]
        table.add_row(_NAMES.get(part, part), *(f"{value:,.2f}" for value in values))
    table.add_section()
    for field in ("makes", "keeps"):
        sizes = [getattr(made, field) for made in told]
        cells = ["–" if value is None else f"{value / size:,.2f}" for value in sizes]
        table.add_row(_NAMES[field], *cells)
    return table
