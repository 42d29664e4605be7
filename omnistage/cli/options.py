"""What the commands of the command line share: options of a recipe, and reading it."""

import argparse
from pathlib import Path
from typing import Any

from omnistage.errors import InputError

PIPELINES = {"post_training": "pipelines.post_training"}
"""A recipe's ``pipeline`` to the module with its ``Recipe``, its ``STAGES`` and its ``plan``."""


def add_command(commands: Any, name: str, call: Any, about: str) -> argparse.ArgumentParser:
    """Add a command that calls a function with the parsed options."""
    command = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
    command.set_defaults(command=call)
    return command


def recipe_arguments(command: argparse.ArgumentParser) -> None:
    """Add what every command that takes a recipe has."""
    command.add_argument("recipe", help="a shipped recipe's name, or the path of a YAML file")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=VALUE",
        help="put a value over the recipe's; may be given several times",
    )
    command.add_argument("--store", help="folder or s3://… for artifacts (default: HOME/store)")
    home_argument(command)


def home_argument(command: argparse.ArgumentParser) -> None:
    """Add ``--home``."""
    command.add_argument(
        "--home",
        type=Path,
        default=Path(".omnistage"),
        help="folder for runs and, by default, the store (default: .omnistage)",
    )


def load(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return the pipeline's module and the validated recipe."""
    import importlib

    from omnistage.recipe.document import find_recipe, read_recipe, validate, with_overrides
    from omnistage.recipe.errors import nearest

    written = read_recipe(find_recipe(options.recipe))
    document = with_overrides(written, options.set)
    name = document.values.get("pipeline")
    if not isinstance(name, str) or name not in PIPELINES:
        hint = nearest(str(name), PIPELINES) or f"it is one of {', '.join(PIPELINES)}"
        wrong = "missing" if name is None else f"no pipeline {name!r}"
        raise InputError(document.say(("pipeline",), f"{wrong}; {hint}"))
    pipeline = importlib.import_module(PIPELINES[name])
    document = with_overrides(written, options.set, pipeline.Recipe)
    return pipeline, validate(document, pipeline.Recipe)


def store_option(options: argparse.Namespace) -> str:
    """Return the URI of the store that the options name."""
    from omnistage.store.uris import uri_path

    store = options.store or str(options.home / "store")
    return store if store.startswith("s3://") else uri_path(store).absolute().as_uri()


def stage_option(pipeline: Any, flag: str, name: str) -> str:
    """Return a stage that was named by an option.

    Raises:
        InputError: If there is no such stage.
    """
    from omnistage.recipe.errors import nearest

    names = list(pipeline.STAGES)
    if name not in names:
        hint = nearest(name, names) or f"stages are {', '.join(names)}"
        raise InputError(f"{flag} {name}: no such stage; {hint}".lstrip())
    return name
