"""Which models are evaluated, and with which reward weights."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.eval.config import EvalSettings
from components.eval.models import models_of, reward_weights
from components.eval.stage import STAGE
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.stage.contract import Context, TaskRuntime
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Kind, Manifest


def artifact(store: FolderStore, kind: Kind, stage: str, **files: str) -> Manifest:
    folder = store.work_folder(stage, "k") / "out"
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return store.commit(folder, kind, stage, "k")


def context(store: FolderStore, **inputs: Manifest) -> Context[EvalSettings]:
    inputs["model"] = artifact(store, "BaseModel", "download_model", files__config="")
    work = store.work_folder("eval", "k")
    events = Events("eval", echo=False)
    return Context("eval", EvalSettings(), inputs, store, work, work, "k", TaskRuntime(), events)


def grpo(store: FolderStore, trained_on: str) -> Manifest:
    settings = json.dumps({"base_model_name_or_path": trained_on})
    folder = store.work_folder("grpo", "k") / "out" / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(settings)
    config = {"reward_weights": {"mm_format": 1.0, "remote": 2.0}}
    produced_by = {"config": config}
    return store.commit(folder.parent, "LoRAAdapter", "grpo", "k", produced_by=produced_by)


def test_every_input_of_a_model_but_the_base_may_be_left_out(tmp_path: Path) -> None:
    assert STAGE.optional == {"sft", "grpo"}
    assert [m.name for m in models_of(context(FolderStore(tmp_path)))] == ["base"]


def test_grpo_from_base_needs_no_fine_tuned_model(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    base, trained = models_of(context(store, grpo=grpo(store, "download_model/k/content/files")))
    assert (base.name, trained.name) == ("base", "grpo")
    assert trained.model == base.model
    assert trained.adapter is not None
    assert Path(trained.adapter).name == "adapter"


def test_grpo_on_a_fully_fine_tuned_model_stands_on_that_model(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    full = artifact(store, "SFTCheckpoint", "sft", model__config="")
    adapter = grpo(store, "sft/k/content/model")
    _, sft, trained = models_of(context(store, sft=full, grpo=adapter))
    assert trained.model == sft.model
    assert sft.adapter is None


def test_grpo_from_a_fine_tuned_model_that_is_no_input_is_refused_by_name(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with pytest.raises(InputError, match="SFT checkpoint sft/k/content/model, which is not among"):
        models_of(context(store, grpo=grpo(store, "sft/k/content/model")))


def test_an_adapter_trained_on_from_an_sft_adapter_holds_both(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    lora = artifact(store, "SFTCheckpoint", "sft", adapter__adapter_config="")
    adapter = grpo(store, "download_model/k/content/files")
    base, sft, trained = models_of(context(store, sft=lora, grpo=adapter))
    assert base.model == sft.model == trained.model
    assert sft.adapter != trained.adapter


def test_weights_that_are_not_set_are_those_that_grpo_trained_with(tmp_path: Path) -> None:
    """`--set grpo.reward_weights.mm_rubric=0.4` is enough: the report follows."""
    trained = grpo(FolderStore(tmp_path), "download_model/k/content/files")
    assert reward_weights(EvalSettings(), trained) == ({"mm_format": 1.0}, ["remote"])
    own: dict[str, Any] = {"reward_weights": {"mm_content": 0.3}}
    assert reward_weights(EvalSettings(**own), trained) == ({"mm_content": 0.3}, [])
    assert reward_weights(EvalSettings(), None) == ({}, [])


def test_an_unknown_reward_is_refused_where_the_recipe_is_read() -> None:
    with pytest.raises(ValidationError, match="'mm_contend' is not a reward"):
        EvalSettings(reward_weights={"mm_contend": 1.0})
