"""Runs the twins of recipes in one process, step by step, and reads what they made."""

from collections.abc import Mapping
from pathlib import Path

from omnistage.recipe.document import (
    find_twin,
    read_recipe,
    shipped_recipes,
    validate,
    with_overrides,
)
from omnistage.stage.contract import Outcome
from omnistage.stage.execute import execute
from omnistage.store.folder import FolderStore
from pipelines.graph import graph_of
from pipelines.recipe import Recipe


def twins() -> dict[str, Path]:
    """Return the file of each twin, by the name of the first recipe that it stands for."""
    found: dict[Path, str] = {}
    for name, path in shipped_recipes().items():
        document = read_recipe(path)
        if document.values.get("tiny"):
            found.setdefault(find_twin(path, document).resolve(), name)
    return {name: twin for twin, name in found.items()}


def bars_of(twin: Path) -> Path:
    """Return the file that says what a run of a twin must show."""
    return twin.with_suffix(".bars.yaml")


TWINS = twins()


def run(name: str, store: FolderStore, *changes: str) -> Mapping[str, Outcome]:
    """Run all steps of a recipe's twin here, and return what came out of each.

    Args:
        name: Of the recipe.
        store: Where the results go.
        changes: As ``--set`` takes them.
    """
    document = with_overrides(read_recipe(TWINS[name]), changes, Recipe, within="steps")
    made: dict[str, Outcome] = {}
    for step in graph_of(validate(document, Recipe).resolve()).values():
        inputs = {given: made[source].manifest for given, source in step.sources.items()}
        made[step.name] = execute(step.stage, step.config, inputs, store)
    return made


def computed(made: Mapping[str, Outcome]) -> list[str]:
    """Return the steps that were not in the store."""
    return [name for name, outcome in made.items() if not outcome.cached]
