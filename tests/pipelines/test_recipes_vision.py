"""The recipes of OmniRL and LMM-R1 say what these systems publish, in arguments ms-swift takes."""

from pathlib import Path
from typing import Any

import pytest

from components.grpo.config import GRPOSettings, idle_settings
from components.grpo.stage import grpo_arguments
from omnistage.recipe.document import read_recipe, shipped_recipes, validate
from omnistage.stage.key import stage_key
from omnistage.store.manifest import Manifest
from omnistage.swift.arguments import check_arguments
from omnistage.swift.family import FAMILIES
from omnistage.swift.lineage import Lineage, Start
from omnistage.swift.training.train import common_arguments
from pipelines.graph import Graph, graph_of
from pipelines.recipe import Recipe

OMNIRL = ("omnirl-rec", "omnirl-text-image")
LMM_R1 = ("lmm-r1-direct-geo", "lmm-r1-mgt-geo", "lmm-r1-mgt-percereason")
TWO_STAGES = LMM_R1[1:]
CHAINS = {name: ["fre", "mgt", "eval"] for name in TWO_STAGES}
VL = FAMILIES["qwen2_5_vl"]


def recipe(name: str) -> Recipe:
    return validate(read_recipe(shipped_recipes()[name]), Recipe)


def trained(name: str) -> dict[str, Any]:
    return {n: step for n, step in recipe(name).steps.items() if step.stage == "grpo"}


def said(step: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(step, name) for name in names}


@pytest.mark.parametrize("name", [*OMNIRL, *LMM_R1])
def test_the_steps_are_those_of_the_system(name: str) -> None:
    assert list(recipe(name).steps) == CHAINS.get(name, ["grpo", "eval"])


@pytest.mark.parametrize("name", OMNIRL)
def test_omnirls_settings_are_the_published_ones(name: str) -> None:
    wanted = {
        "tuner": "full",
        "epochs": 2,
        "batch_size": 8 * 1 * 2,
        "num_generations": 8,
        "max_length": 1024,
        "dtype": "bfloat16",
        "zero_stage": 3,
        "save_steps": 100,
    }
    (step,) = trained(name).values()
    assert said(step, *wanted) == wanted


def test_omnirls_rewards_are_those_of_its_tasks() -> None:
    (words,), (rec,) = trained("omnirl-text-image").values(), trained("omnirl-rec").values()
    assert set(words.reward_weights) == {
        "omnirl_accuracy",
        "omnirl_length_strict",
        "omnirl_format",
    }
    assert set(rec.reward_weights) == {"rec_iou", "omnirl_format"}


@pytest.mark.parametrize("name", LMM_R1)
def test_lmm_r1s_settings_are_the_published_ones(name: str) -> None:
    wanted = {
        "tuner": "full",
        "batch_size": 256,
        "num_generations": 16,
        "beta": 0.001,
        "max_length": 4096,
        "max_completion_length": 4096,
        "reward_weights": {"lmm_math": 1.0, "lmm_format": 0.5},
        "zero_stage": 3,
        "save_steps": 20,
    }
    for step in trained(name).values():
        assert said(step, *wanted) == wanted
        assert step.vllm.gpu_memory_utilization == 0.5
        assert step.vllm.sleep_level


@pytest.mark.parametrize("name", TWO_STAGES)
def test_lmm_r1_goes_on_from_text_with_the_same_estimator(name: str) -> None:
    fre, mgt = trained(name).values()
    assert (fre.start, fre.records, mgt.start) == ("base", "deepscaler", "fre")
    assert fre.advantage_estimator == mgt.advantage_estimator == "rloo"


def test_the_two_recipes_of_lmm_r1_train_on_text_alike() -> None:
    def keys(graph: Graph) -> list[str]:
        steps = [graph[n] for n in ("download-deepscaler", "download_model", "fre")]
        return [stage_key(s.stage, s.config, dict.fromkeys(s.stage.inputs, "x")) for s in steps]

    first, second = (keys(graph_of(recipe(name))) for name in TWO_STAGES)
    assert first == second


@pytest.mark.parametrize("name", [*OMNIRL, *LMM_R1])
@pytest.mark.parametrize("estimator", ["rloo", "reinforce_plus_plus", "grpo"])
def test_ms_swift_takes_the_arguments_with_each_estimator(
    name: str, estimator: str, tmp_path: Path
) -> None:
    found = recipe(name)
    digest = f"sha256:{'0' * 64}"
    base = Manifest(kind="BaseModel", stage="s", key="k", digest=digest, uri="file:///x", files=[])
    start = Start(Lineage(base, base), VL, tmp_path, tmp_path, None)
    steps = [s for s in graph_of(found).values() if s.stage.name == "grpo"]
    for step in steps:
        values = step.config.model_dump(exclude_unset=True) | {"advantage_estimator": estimator}
        config = GRPOSettings.model_validate(values)
        own = grpo_arguments(config, start, tmp_path)
        common = common_arguments(config, VL, found.cluster.gpus_per_node, step.name)
        check_arguments("rlhf", {**common, **own}, step.name)
        assert idle_settings(config) == []
