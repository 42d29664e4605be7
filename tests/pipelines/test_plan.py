"""What a run would do, and looking up what it needs."""

from collections import Counter
from pathlib import Path

import pytest

from omnistage.errors import InputError
from omnistage.recipe.document import find_recipe, read_recipe, validate
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Kind, Manifest
from pipelines.graph import graph_of
from pipelines.plan import plan, step_key, stored_inputs
from pipelines.recipe import Recipe
from tests.store.store_kit import store_results

GRAPH = graph_of(validate(read_recipe(find_recipe("tiny")), Recipe))


class CountingStore(FolderStore):
    """Counts how often each stage's result is looked for: every look reads every byte."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: Counter[str] = Counter()

    def find(self, stage: str, key: str, kind: Kind | None = None) -> Manifest | None:
        self.asked[stage] += 1
        return super().find(stage, key, kind)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    """A store that has what every step but eval makes, of a few bytes."""
    made = CountingStore(tmp_path / "store")
    store_results(made, GRAPH, list(GRAPH)[:-1], tmp_path)
    made.asked.clear()
    return made


def test_each_upstream_step_is_looked_up_once(store: CountingStore) -> None:
    found = stored_inputs(GRAPH, "eval", store)
    assert {i: m.stage for i, m in found.items()} == dict(GRAPH["eval"].sources)
    assert store.asked == dict.fromkeys(list(GRAPH)[:-1], 1)


def test_a_plan_looks_each_step_up_once(store: CountingStore) -> None:
    planned = plan(GRAPH, list(GRAPH), store)
    assert {p.name: p.cached for p in planned} == {**dict.fromkeys(GRAPH, True), "eval": False}
    assert store.asked == dict.fromkeys(GRAPH, 1)


def test_an_input_that_is_not_there_is_named_with_the_step_that_makes_it(tmp_path: Path) -> None:
    empty = FolderStore(tmp_path / "empty")
    with pytest.raises(InputError, match="run the recipe up to download first"):
        stored_inputs(GRAPH, "sft", empty)


def test_leaving_out_a_test_record_trains_nothing_again(tmp_path: Path) -> None:
    def keys(run: str, test: str) -> dict[str, str]:
        store = FolderStore(tmp_path / f"store-{run}")
        made: dict[str, Manifest] = {}
        found: dict[str, str] = {}
        for name, step in GRAPH.items():
            found[name] = step_key(step, made)
            folder = tmp_path / run / name
            folder.mkdir(parents=True)
            texts = {"file": name}
            if name == "download":
                texts["files/test.jsonl"] = test
            if name == "rewrite_paths":
                texts = {
                    "sft.jsonl": "a",
                    "rl.jsonl": "a",
                    "sft.media.jsonl": "a",
                    "test.jsonl": test,
                }
            for path, text in texts.items():
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_text(text)
            made[name] = store.commit(folder, step.kind, step.stage.name, found[name])
        return found

    whole, fewer = keys("whole", "1\n2\n"), keys("fewer", "1\n")

    changed = {name for name in whole if whole[name] != fewer[name]}
    assert changed == {"rewrite_paths", "eval"}
