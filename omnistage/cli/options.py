"""What the commands of the command line share: options of a recipe, and reading it."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnistage.errors import InputError


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
        help="put a value over the recipe's, STEP.B for steps.STEP.B; may be given several times",
    )
    command.add_argument(
        "--tiny",
        action="store_true",
        help="take its tiny twin: the same steps with a tiny model and generated data",
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


def load(options: argparse.Namespace) -> Any:
    """Return the validated recipe, a :class:`pipelines.recipe.Recipe`."""
    from omnistage.recipe.document import (
        find_recipe,
        find_twin,
        read_recipe,
        validate,
        with_overrides,
    )
    from pipelines.recipe import Recipe

    path = find_recipe(options.recipe)
    document = read_recipe(path)
    if options.tiny:
        document = read_recipe(find_twin(path, document))
    return validate(with_overrides(document, options.set, Recipe, within="steps"), Recipe)


def store_option(options: argparse.Namespace) -> str:
    """Return the URI of the store that the options name."""
    from omnistage.store.uris import uri_path

    store = options.store or str(options.home / "store")
    return store if store.startswith("s3://") else uri_path(store).absolute().as_uri()


def step_option(graph: Mapping[str, Any], flag: str, name: str) -> str:
    """Return a step that was named by an option.

    Args:
        graph: The recipe's steps by name.
        flag: The option, for errors; empty for an argument.
        name: What was given.

    Raises:
        InputError: If the recipe has no such step.
    """
    from omnistage.recipe.errors import nearest

    if name not in graph:
        hint = nearest(name, graph) or f"steps are {', '.join(graph)}"
        raise InputError(f"{flag} {name}: no such step; {hint}".lstrip())
    return name
