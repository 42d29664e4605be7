"""``omnistage show``: what a run did and where its artifacts are."""

import time
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from omnistage.events import clock
from omnistage.runs.folder import Run, all_runs, find_run, read_run
from omnistage.runs.live import stage_table


def show(home: Path, name: str | None, *, as_json: bool, console: Console) -> None:
    """Print one run: its stages, keys, durations and artifacts.

    Args:
        home: omnistage's folder.
        name: Of the run; None for the latest.
        as_json: Print JSON instead of a table.
        console: Where it is printed.

    Raises:
        InputError: If there is no such run.
    """
    run = read_run(find_run(home, name))
    if as_json:
        _print_json(run.to_json())
        return
    console.print(f"[bold]{run.folder.name}[/]  {_how(run)}", highlight=False)
    console.print(stage_table(run.stages))
    for stage in run.stages:
        for text in [*(f"warning: {w}" for w in stage.warnings), stage.error]:
            if text:
                console.print(f"{stage.name}: {text}", markup=False, highlight=False)
    for stage in run.stages:
        if stage.uri:
            print(f"{stage.name}: {stage.uri}")
    for label, path in (("log", run.folder / "log.txt"), ("report", run.report)):
        if path:
            print(f"{label}: {path}")


def show_all(home: Path, *, as_json: bool, console: Console) -> None:
    """Print a line for every run, the latest first."""
    runs = [read_run(folder) for folder in all_runs(home)]
    if as_json:
        _print_json([run.to_json() for run in runs])
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("run", "state", "stages", "time"):
        table.add_column(column, no_wrap=True)
    for run in runs:
        ran = [s.name for s in run.stages if s.state == "done"]
        cached = sum(s.state == "cached" for s in run.stages)
        table.add_row(
            run.folder.name,
            run.state,
            ", ".join([f"ran {' '.join(ran)}"] * bool(ran) + [f"{cached} cached"] * bool(cached)),
            _duration(run),
        )
    console.print(table)


def _how(run: Run) -> str:
    took = _duration(run)
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.started))
    code = f" (exit code {run.exit_code})" if run.state == "failed" else ""
    parts = [f"{run.state}{code}", f"recipe {run.recipe}", f"begun {begun}"]
    return ", ".join([*parts, f"took {took}"] if took else parts)


def _duration(run: Run) -> str:
    if run.state == "running":
        return clock(max(0.0, time.time() - run.started))
    return clock(max(0.0, run.finished - run.started)) if run.finished else ""


def _print_json(value: object) -> None:
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
