"""Where a step starts from: one manifest that says what its model is made of."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from components.grpo.config import GRPOSettings
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.files import read_jsonl
from omnistage.stage.contract import Context, TaskRuntime
from omnistage.store.folder import FolderStore
from omnistage.store.layout import MANIFEST
from omnistage.store.manifest import Manifest
from omnistage.store.open import read_manifest
from omnistage.swift import lineage as lineage_module
from omnistage.swift.lineage import Start, lineage_of, start_of
from tests.swift.lineage_kit import adapter, base_model, whole_model


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def merges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The adapters that are merged, one for each time the trainer would be asked to."""
    done: list[str] = []

    def merge(_context: Any, _family: Any, _dtype: str, model: Path, own: Path, out: Path) -> None:
        done.append(own.parents[1].name)
        shutil.copytree(model, out)

    monkeypatch.setattr(lineage_module, "_merge", merge)
    return done


def start(store: FolderStore, made: Manifest, **settings: Any) -> Start:
    config = GRPOSettings.model_validate(settings)
    work = store.work_folder("grpo", "new")
    work.mkdir(parents=True, exist_ok=True)
    events = Events("second", work / "events.jsonl", echo=False)
    return start_of(
        Context("grpo", config, {"start": made}, store, work, work, "n", TaskRuntime(), events),
        config,
    )


def test_from_the_base_model(store: FolderStore) -> None:
    base = base_model(store)
    found = start(store, base)
    assert (found.model, found.adapter) == (found.base, None)
    assert found.name == "download_model/k/content/files"
    assert found.family.title == "Qwen2.5-Omni"
    assert found.lineage("lora")["model"]["digest"] == base.digest


def test_from_a_whole_model_configuration_and_processor_stay_the_base_models(
    store: FolderStore,
) -> None:
    base = base_model(store)
    found = start(store, whole_model(store, "sft", base))
    assert found.model.name == "model"
    assert (found.base / "config.json").is_file()
    assert found.name == "sft/k/content/model"
    assert found.lineage("full") == {
        "base": found.lineage("lora")["base"],
        "model": None,
        "adapters": [],
    }


def test_an_adapter_is_trained_on(store: FolderStore, merges: list[str]) -> None:
    """The result holds both, so it stands in the place of the earlier one."""
    base = base_model(store)
    found = start(store, adapter(store, "sft", base))
    assert found.model == found.base
    assert found.adapter is not None
    assert (found.adapter / "adapter_config.json").is_file()
    assert (found.lineage("lora")["adapters"], merges) == ([], [])


def test_a_new_adapter_on_top_of_an_earlier_one_has_that_in_its_lineage(
    store: FolderStore, merges: list[str]
) -> None:
    base = base_model(store)
    first = adapter(store, "sft", base, key="first")
    found = start(store, first, on_adapter="add")
    assert found.adapter is None
    assert merges == ["first"]
    assert [a["key"] for a in found.lineage("lora")["adapters"]] == ["first"]
    assert found.name == "download_model/k/content/files+sft/first/content/adapter"


def test_adapters_are_merged_in_their_order_and_once(store: FolderStore, merges: list[str]) -> None:
    base = base_model(store)
    first = adapter(store, "sft", base, key="first")
    second = adapter(store, "grpo", base, first, key="second")
    assert [m.key for m in lineage_of(second).adapters] == ["first", "second"]
    trained_on = start(store, second)
    assert (merges, trained_on.adapter is not None) == (["first"], True)
    start(store, second, on_adapter="add")
    assert merges == ["first", "second"], "the first is merged already"


def test_all_weights_are_trained_on_the_merged_model(store: FolderStore, merges: list[str]) -> None:
    found = start(store, adapter(store, "sft", base_model(store)), tuner="full")
    assert (found.adapter, merges) == (None, ["k"])
    assert found.lineage("full")["model"] is None


def test_another_rank_than_that_of_the_adapter_that_is_trained_on_is_said(
    store: FolderStore,
) -> None:
    start(store, adapter(store, "sft", base_model(store)), lora_rank=16)
    (event,) = read_jsonl(store.work_folder("grpo", "new") / "events.jsonl")
    assert event["text"].startswith("lora_rank 16 is not used: the adapter that is trained on")


def test_a_store_that_was_moved_still_has_what_a_model_is_made_of(
    store: FolderStore, tmp_path: Path
) -> None:
    made = adapter(store, "grpo", whole_model(store, "sft", base_model(store)))
    moved = tmp_path / "moved"
    store.root.rename(moved)
    there = read_manifest(str(moved / "grpo" / made.key / MANIFEST))
    found = lineage_of(there)
    assert (found.model.stage, found.base.stage) == ("sft", "download_model")
    assert all(str(moved) in m.uri for m in (found.model, found.base))


def test_what_is_gone_is_named(store: FolderStore) -> None:
    made = adapter(store, "grpo", base_model(store))
    store.discard("download_model", "k")
    with pytest.raises(InputError, match=r"made from download_model k, which is no longer in"):
        lineage_of(made)


@pytest.mark.parametrize("name", ["config.json", "config.5.0.0.json", "processor_config.json"])
def test_a_checkpoint_that_brings_code_is_not_loaded(store: FolderStore, name: str) -> None:
    hostile = whole_model(
        store, "sft", base_model(store), file=f"model/{name}", text='{"auto_map": {"A": "m.M"}}'
    )

    with pytest.raises(InputError, match=f"{name}: auto_map names code"):
        start(store, hostile)


def test_an_adapter_that_brings_code_is_not_loaded(store: FolderStore) -> None:
    hostile = adapter(store, "sft", base_model(store), auto_map={"AutoModel": "m.M"})
    code = adapter(store, "sft", base_model(store), key="c", file="adapter/m.py")

    for made, said in ((hostile, "auto_map names code"), (code, "m.py: code that comes")):
        for on_adapter in ("continue", "add"):
            with pytest.raises(InputError, match=said):
                start(store, made, on_adapter=on_adapter)
