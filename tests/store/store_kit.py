"""Results of a recipe's steps in a store, of a few bytes each."""

from collections.abc import Iterable
from pathlib import Path

from omnistage.files import write_json
from omnistage.recipe.document import find_recipe, read_recipe, validate
from omnistage.store.folder import FolderStore
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from pipelines.graph import Graph, graph_of
from pipelines.plan import step_key
from pipelines.recipe import Recipe


def store_results(store: Store, graph: Graph, steps: Iterable[str], folder: Path) -> None:
    """Put a small result for each step into a store, under the key that a run looks for.

    Args:
        store: The store.
        graph: Of a resolved recipe.
        steps: Names, each after its upstream steps.
        folder: Where the files are made.
    """
    results: dict[str, Manifest] = {}
    for name in steps:
        step, made = graph[name], folder / "made" / name
        made.mkdir(parents=True)
        (made / "file").write_text(name)
        if step.kind == "EvalReport":
            (made / "report.html").write_text("<html>")
            headline = {"task": "judge", "metric": "accuracy", "models": {}}
            tasks = {"judge": {"models": {"base": {"confusion": None}}}}
            write_json(made / "report.json", {"headline": headline, "tasks": tasks})
        key = step_key(step, results)
        results[name] = store.commit(made, step.kind, step.stage.name, key)


def tiny_inputs(folder: Path) -> FolderStore:
    """Return a store below ``folder`` that has the inputs of the tiny recipe's ``sft``."""
    recipe = validate(read_recipe(find_recipe("tiny")), Recipe)
    store = FolderStore(folder / "store")
    store_results(store, graph_of(recipe), ("download", "download_model", "rewrite_paths"), folder)
    return store
