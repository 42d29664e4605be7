"""The command line, ``omnistage``.

Only what a command needs is imported when it runs, so that ``omnistage --help`` answers at once.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from omnistage.cli.cluster import add_cluster_commands
from omnistage.cli.eval import (
    add_ask_command,
    add_benchmark_command,
    add_compare_command,
    add_eval_command,
)
from omnistage.cli.export import add_export_commands
from omnistage.cli.init import add_init_command
from omnistage.cli.options import (
    add_command,
    home_argument,
    load,
    recipe_arguments,
    step_option,
    store_option,
)
from omnistage.cli.plan import add_plan_command
from omnistage.cli.rewards import add_rewards_command
from omnistage.errors import InputError, OmnistageError, machine_errors

CHILD = "pipelines.local"
"""The module that runs a pipeline, in a process of its own, from the folder of a run."""

FORMATS = ("ms_swift", "trl", "verl", "llama_factory", "openai")
"""What :mod:`omnistage.records.convert` writes; a test holds the two together."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code, see :mod:`omnistage.errors`.

    Args:
        arguments: The command line; ``sys.argv`` by default.
    """
    options = _parser().parse_args(arguments)
    try:
        with machine_errors("omnistage"):
            return options.command(options) or 0
    except OmnistageError as e:
        from omnistage.files import printable

        print(f"omnistage: error: {printable(str(e))}", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="omnistage", description="Post-training of omni-modal models as a pipeline."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = add_command(commands, "run", _run, "run a recipe on this machine")
    recipe_arguments(run)
    run.add_argument(
        "--from",
        dest="first",
        metavar="STEP",
        help="begin at this step: take its upstream steps from the store",
    )
    run.add_argument(
        "--to",
        dest="last",
        metavar="STEP",
        help="make this step and its upstream steps (default: all steps)",
    )
    run.add_argument(
        "--force", action="append", default=[], metavar="STEP", help="run it although it is cached"
    )
    run.add_argument("--dry-run", action="store_true", help="say what would run, and why")

    add_init_command(commands)
    add_plan_command(commands)
    add_cluster_commands(commands)

    show = add_command(commands, "show", _show, "what a run did, and where its artifacts are")
    show.add_argument("run", nargs="?", help="name, part of a name or folder (default: latest)")
    show.add_argument("--all", action="store_true", help="list all runs")
    show.add_argument("--json", action="store_true", help="print JSON")
    home_argument(show)

    add_eval_command(commands)
    add_ask_command(commands)
    add_compare_command(commands)
    add_benchmark_command(commands)
    add_rewards_command(commands)
    add_export_commands(commands)

    add_command(commands, "recipes", _recipes, "list the recipes that come with omnistage")

    _add_store_commands(commands)
    return parser


def _add_store_commands(commands: Any) -> None:
    """Add what looks after stored artifacts and records."""
    verify = add_command(commands, "verify", _verify, "check every byte of stored artifacts")
    verify.add_argument("artifact", nargs="+", help="folder or URI of an artifact or its manifest")

    prune = add_command(
        commands, "prune", _prune, "list what no run needs any more, and remove it with --delete"
    )
    prune.add_argument("--keep", type=int, default=10, metavar="N", help="runs to keep: the latest")
    prune.add_argument("--since", metavar="DATE", help="keep runs from then on too: 2026-11-30")
    prune.add_argument("--delete", action="store_true", help="remove it (default: only list it)")
    prune.add_argument("--store", help="folder of the store (default: store in --home)")
    home_argument(prune)

    export = add_command(
        commands, "convert", _convert, "write canonical records for another trainer"
    )
    export.add_argument("records", type=Path, help="folder with sft.jsonl, rl.jsonl, test.jsonl")
    export.add_argument("--to", required=True, choices=FORMATS, help="format of that trainer")
    export.add_argument("--out", type=Path, required=True, help="folder to write to")
    export.add_argument(
        "--media-root", help="put before each media path (default: paths relative to the root)"
    )


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from omnistage.runs.folder import new_run
    from omnistage.runs.supervise import supervise
    from pipelines.graph import graph_of

    recipe, store = load(options), store_option(options)
    names = _steps(graph_of(recipe), options)
    if options.dry_run:
        return _dry_run(graph_of(recipe.resolve()), names, store, options.force)
    request = {
        "recipe": recipe.model_dump(mode="json"),
        "store": store,
        "from": options.first,
        "to": options.last,
        "force": options.force,
    }
    folder = new_run(options.home, recipe.name, request, names)
    command = [sys.executable, "-m", CHILD, str(folder)]
    return supervise(folder, names, command, Console(), request)


def _steps(graph: Any, options: argparse.Namespace) -> list[str]:
    """Return the steps of a run: all of the recipe, or that of ``--to`` and its upstream ones."""
    from pipelines.graph import needed

    names, last = list(graph), options.last
    if last:
        names = needed(graph, step_option(graph, "--to", last))
    for flag, given in (("--from", [options.first]), ("--force", options.force)):
        for name in filter(None, given):
            if step_option(graph, flag, name) not in names:
                raise InputError(f"{flag} {name}: {last} does not need it, so it is not run")
    return names


def _dry_run(graph: Any, names: list[str], store: str, force: list[str]) -> int:
    from rich.console import Console
    from rich.table import Table

    from omnistage.store.open import open_store
    from pipelines.plan import plan

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("step", "plan", "key", "why"):
        table.add_column(column)
    for planned in plan(graph, names, open_store(store)):
        key = (planned.key or "")[:12]
        if planned.name in force:
            table.add_row(planned.name, "run", key, "--force")
        else:
            what = {True: "cached", False: "run", None: "not known yet"}[planned.cached]
            table.add_row(planned.name, what, key, planned.reason)
    Console(soft_wrap=True).print(table)
    return 0


def _show(options: argparse.Namespace) -> None:
    from rich.console import Console

    from omnistage.runs.show import show, show_all

    console = Console(soft_wrap=True)
    if options.all:
        show_all(options.home, as_json=options.json, console=console)
    else:
        show(options.home, options.run, as_json=options.json, console=console)


def _recipes(_: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from omnistage.recipe.document import read_recipe, shipped_recipes

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, path in shipped_recipes().items():
        table.add_row(name, str(read_recipe(path).values.get("description", "")))
    Console().print(table)


def _verify(options: argparse.Namespace) -> int:
    from omnistage.events import Events
    from omnistage.store.layout import CONTENT
    from omnistage.store.verify import verify

    wrong = False
    for artifact in options.artifact:
        # 'omnistage show' names the folder with the files; the manifest lies beside it.
        found = verify(artifact.rstrip("/").removesuffix(f"/{CONTENT}"), Events("verify"))
        for problem in found:
            print(f"{artifact}: {problem}", file=sys.stderr)
        if not found:
            print(f"{artifact}: whole")
        wrong = wrong or bool(found)
    return 1 if wrong else 0


def _prune(options: argparse.Namespace) -> None:
    from datetime import datetime

    from omnistage.files import counted, human_bytes
    from omnistage.runs.prune.prune import remove, unneeded

    try:
        since = datetime.fromisoformat(options.since).timestamp() if options.since else None
    except ValueError as e:
        raise InputError(f"--since {options.since}: expected a date such as 2026-11-30") from e
    store = store_option(options)
    if options.store:
        print(f"counted are the runs of {options.home} and of clusters; others here are not known")
    found = unneeded(options.home, store, max(options.keep, 1), since)
    for item in found:
        held = f"  ({item.held}: left)" if item.held else ""
        print(f"{human_bytes(item.size):>10}  {item.what:8}  {item.place}{held}")
    sizes = [item.size for item in found if not item.held]
    total = human_bytes(sum(sizes))
    if not options.delete:
        print(f"{total} in {counted(len(sizes), 'place')}; --delete removes them")
        return
    for item in remove(found):
        print(f"{item.place}: {item.held or 'in use'}, left")
    print(f"removed, of {total}, what is not in use")


def _convert(options: argparse.Namespace) -> None:
    from omnistage.files import counted
    from omnistage.records.convert import convert

    counts = convert(options.records, options.to, options.out, options.media_root)
    for split, count in counts.items():
        print(f"{split}: {counted(count, 'record')}")
