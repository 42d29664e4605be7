"""A store with what a training stage needs, of a few bytes."""

from pathlib import Path

from omnistage.recipe.document import find_recipe, read_recipe, validate
from omnistage.stage.key import stage_key
from omnistage.store.folder import FolderStore
from pipelines.graph import STAGES
from pipelines.recipe import Recipe, config_of


def tiny_inputs(folder: Path) -> FolderStore:
    """Return a store below ``folder`` that has the inputs of the tiny recipe's ``sft``."""
    recipe = validate(read_recipe(find_recipe("tiny")), Recipe)
    made, digests = FolderStore(folder / "store"), {}
    for name in ("download", "download_model", "rewrite_paths"):
        made_of = folder / name
        made_of.mkdir()
        (made_of / "file").write_text(name)
        inputs = {"data": digests["download"]} if name == "rewrite_paths" else {}
        key = stage_key(STAGES[name], config_of(recipe, name), inputs)
        digests[name] = made.commit(made_of, STAGES[name].kind, name, key).digest
    return made
