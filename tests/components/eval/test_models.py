"""Which models are evaluated, and with which reward weights."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.eval.config import EvalSettings
from components.eval.models import common_base, models_of, named_models, reward_weights
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.stage.contract import Context, TaskRuntime, numbered
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest
from tests.swift.lineage_kit import adapter, base_model, whole_model


def context(store: FolderStore, **models: Manifest) -> Context[EvalSettings]:
    inputs = {numbered("model", n): m for n, m in enumerate(models.values(), 1)}
    config = EvalSettings(models=[name.replace("_", "-") for name in models])
    work = store.work_folder("eval", "k")
    events = Events("ask", echo=False)
    return Context("eval", config, inputs, store, work, work, "k", TaskRuntime(), events)


def test_each_model_is_loaded_as_its_lineage_says(tmp_path: Path) -> None:
    """An adapter on the base model, a whole model, and an adapter on that one."""
    store = FolderStore(tmp_path)
    base = base_model(store)
    whole = whole_model(store, "sft", base)
    given = context(
        store,
        base=base,
        lora=adapter(store, "sft", base, key="lora"),
        cold_start=whole,
        rlvr=adapter(store, "grpo", whole),
    )
    found = {m.name: m for m in models_of(given, common_base(given).family)}
    assert list(found) == ["base", "lora", "cold-start", "rlvr"]
    assert found["lora"].model == found["base"].model
    assert found["rlvr"].model == found["cold-start"].model
    assert (found["base"].adapter, found["cold-start"].adapter) == (None, None)
    assert [Path(found[n].adapter or "").name for n in ("lora", "rlvr")] == ["adapter"] * 2
    assert found["rlvr"].digests == [whole.digest, given.inputs["model_4"].digest]


def test_each_model_has_a_name_of_its_own(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    given = context(store, base=base_model(store))
    wrong = Context(
        *("eval", EvalSettings(models=["base", "sft"]), given.inputs, store),
        *(tmp_path, tmp_path, "k", TaskRuntime(), given.events),
    )
    with pytest.raises(InputError, match="ask.models names base, sft, but 1 models are inputs"):
        named_models(wrong)


def test_models_of_two_families_are_not_asked_the_same_prompts(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    given = context(store, a=base_model(store), b=base_model(store, "qwen2_5_vl", key="vl"))
    with pytest.raises(InputError, match=r"a is Qwen2\.5-Omni, b is Qwen2\.5-VL; one step each"):
        common_base(given)


def test_weights_that_are_not_set_are_those_of_the_last_training_that_has_any(
    tmp_path: Path,
) -> None:
    """`--set grpo.reward_weights.mm_rubric=0.4` is enough: the report follows."""
    store = FolderStore(tmp_path)
    base = base_model(store)
    first = adapter(store, "grpo", base, key="1", reward_weights={"mm_content": 1.0})
    last = adapter(store, "grpo", base, key="2", reward_weights={"mm_format": 1.0, "remote": 2.0})
    models = {"base": base, "first": first, "last": last}
    assert reward_weights(EvalSettings(), models) == ({"mm_format": 1.0}, ["remote"])
    own: dict[str, Any] = {"reward_weights": {"mm_content": 0.3}}
    assert reward_weights(EvalSettings(**own), models) == ({"mm_content": 0.3}, [])
    assert reward_weights(EvalSettings(), {"base": base}) == ({}, [])


def test_an_unknown_reward_is_refused_where_the_recipe_is_read() -> None:
    with pytest.raises(ValidationError, match="'mm_contend' is not a reward"):
        EvalSettings(reward_weights={"mm_contend": 1.0})
