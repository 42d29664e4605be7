"""A store with what a training stage needs, of a few bytes."""

from pathlib import Path

from omnistage.recipe.document import find_recipe, read_recipe, validate
from omnistage.stage.key import stage_key
from omnistage.store.folder import FolderStore
from pipelines.graph import graph_of
from pipelines.recipe import Recipe


def tiny_inputs(folder: Path) -> FolderStore:
    """Return a store below ``folder`` that has the inputs of the tiny recipe's ``sft``."""
    recipe = validate(read_recipe(find_recipe("tiny")), Recipe)
    made, digests = FolderStore(folder / "store"), {}
    for name in ("download", "download_model", "rewrite_paths"):
        made_of = folder / name
        made_of.mkdir()
        (made_of / "file").write_text(name)
        step = graph_of(recipe)[name]
        key = stage_key(step.stage, step.config, {i: digests[s] for i, s in step.sources.items()})
        digests[name] = made.commit(made_of, step.stage.kind, step.stage.name, key).digest
    return made
