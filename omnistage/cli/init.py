"""``omnistage init``: a first recipe for somebody's own data."""

import argparse
import os
from pathlib import Path
from typing import Any

from omnistage.cli.options import add_command, home_argument, store_option
from omnistage.errors import InputError


def add_init_command(commands: Any) -> None:
    """Add the command."""
    init = add_command(commands, "init", _init, "write a first recipe for data of your own")
    init.add_argument("data", help="a folder, s3://bucket/prefix, or owner/name on the hub")
    init.add_argument(
        "--model",
        help="as DATA, or tiny (default: a Qwen2.5 of 3B that fits the data)",
    )
    init.add_argument("--out", type=Path, help="the recipe's file (default: NAME.yaml)")
    init.add_argument("--store", help="folder or s3://… for artifacts (default: HOME/store)")
    home_argument(init)


def _init(options: argparse.Namespace) -> int:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from omnistage.cli.plan import show_plan
    from omnistage.events import Events
    from omnistage.files import write_atomic
    from omnistage.store.open import open_store
    from pipelines.first_recipe.draft import first_recipe

    if options.out and options.out.exists():
        raise InputError(f"--out {options.out}: is there already; name another file")
    store = store_option(options)
    made = first_recipe(options.data, options.model, open_store(store), Events("init"))
    out = options.out or Path(f"{made.recipe.name}.yaml")
    if out.exists():
        raise InputError(f"{out}: is there already; name another file with --out")
    _tell(made)
    write_atomic(out, made.text)
    print(f"\nwritten: {out}\n")
    show_plan(made.recipe, store, None, as_json=False)
    print(f"\nomnistage run ./{out}" if not out.is_absolute() else f"\nomnistage run {out}")
    return 0


def _tell(made: Any) -> None:
    """Print what the data were taken for."""
    from omnistage.files import counted, one_line

    for one in made.looks:
        kinds = ", ".join(f"{name} ({n})" for name, n in one.formats.most_common())
        read = " and ".join(one.splits) or "left alone"
        rows = counted(one.rows, "row")
        print(f"{one_line(one.shown, 200)}: {rows}; {kinds or 'of no known format'}; {read}")
        for reason, count in one.unread.most_common(2):
            print(f"  {count} of the first rows cannot be read: {reason}")
    card = made.card
    for title, table in (("task", card["by_task"]), ("modality", card["by_modality"])):
        for name, counts in table.items():
            shown = ", ".join(f"{split} {n:,}" for split, n in counts.items() if n)
            print(f"{title} {name}: {shown}")
    for reason, found in card["rejected"].items():
        first = found["examples"][0]
        where = f"{first['file']}:{first['line']}: {one_line(first['detail'], 300)}"
        print(f"rejected, {reason}: {found['rows']:,}, such as {where}")
    if card["dropped_columns"]:
        print("columns not used: " + ", ".join(map(one_line, card["dropped_columns"])))
