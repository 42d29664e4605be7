"""What a recipe that comes with omnistage says to the trainer is what the trainer takes."""

from pathlib import Path
from typing import Any

import pytest

from components.dpo.stage import dpo_arguments
from components.grpo.config import idle_settings
from components.grpo.stage import grpo_arguments
from omnistage.recipe.document import read_recipe, shipped_recipes, validate
from omnistage.store.manifest import Manifest
from omnistage.swift.arguments import Command, check_arguments
from omnistage.swift.family import FAMILIES, Family
from omnistage.swift.lineage import Lineage, Start
from omnistage.swift.training.train import common_arguments
from pipelines.graph import graph_of
from pipelines.recipe import Recipe
from pipelines.steps import TRAINED

COMMANDS: dict[str, Command] = {"sft": "sft", "grpo": "rlhf", "dpo": "rlhf"}


def family_of(recipe: Recipe) -> Family:
    """The family that the name of the recipe's base model says."""
    (source,) = recipe.model.sources
    if source.type == "tiny":
        return FAMILIES[source.settings.get("model_type", "qwen2_5_omni")]
    assert source.type == "hub"
    return next(f for f in FAMILIES.values() if f.title in source.repo)


def own_arguments(stage: str, config: Any, start: Start) -> dict[str, Any]:
    if stage == "grpo":
        return grpo_arguments(config, start, Path("rl.jsonl"))
    return dpo_arguments(config, start, Path("rl.jsonl")) if stage == "dpo" else {}


@pytest.mark.parametrize("name", shipped_recipes())
def test_ms_swift_takes_the_arguments_of_every_training_step(name: str, tmp_path: Path) -> None:
    recipe = validate(read_recipe(shipped_recipes()[name]), Recipe)
    family, gpus = family_of(recipe), recipe.cluster.gpus_per_node or 1
    digest = f"sha256:{'0' * 64}"
    base = Manifest(kind="BaseModel", stage="s", key="k", digest=digest, uri="file:///x", files=[])
    steps = [s for s in graph_of(recipe).values() if s.stage.name in TRAINED]
    assert steps
    for step in steps:
        start = Start(Lineage(base, base), family, tmp_path, tmp_path, None)
        config: Any = step.config
        given = common_arguments(config, family, gpus, step.name)
        own = own_arguments(step.stage.name, config, start)
        check_arguments(COMMANDS[step.stage.name], {**given, **own}, step.name)
        if step.stage.name == "grpo":
            assert idle_settings(config) == []


@pytest.mark.parametrize("name", shipped_recipes())
def test_sound_is_only_given_to_a_model_that_hears(name: str) -> None:
    recipe = validate(read_recipe(shipped_recipes()[name]), Recipe)
    heard = any(step.media.use_audio_in_video for step in recipe.steps.values())
    assert not heard or family_of(recipe).hears


STATED: dict[tuple[str, str], dict[str, Any]] = {
    ("r1-omni", "cold-start"): {"epochs": 5, "learning_rate": 2e-5, "batch_size": 16},
    ("r1-omni", "rlvr"): {"epochs": 2, "num_generations": 8, "max_completion_length": 512},
    ("humanomni-v2", "cold-start"): {"epochs": 2, "learning_rate": 2e-5, "batch_size": 8},
    ("humanomni-v2", "rl-context"): {
        "batch_size": 16,
        "num_generations": 8,
        "max_completion_length": 1024,
        "scale_rewards": "none",
    },
    ("humanomni-v2", "rl-answer"): {"batch_size": 8, "num_generations": 8, "save_steps": 200},
    ("omnicritic-dpo-qwen3", "dpo"): {
        "lora_rank": 32,
        "lora_alpha": 64,
        "learning_rate": 1e-6,
        "beta": 0.1,
        "label_smoothing": 0.1,
        "max_length": 4096,
        "zero_stage": 3,
    },
}
"""Of the papers and scripts that a recipe's first lines name."""


@pytest.mark.parametrize(("name", "step"), STATED)
def test_settings_are_those_that_the_system_states(name: str, step: str) -> None:
    recipe = validate(read_recipe(shipped_recipes()[name]), Recipe)
    found = recipe.steps[step].model_dump()
    assert {key: found[key] for key in STATED[name, step]} == STATED[name, step]


@pytest.mark.parametrize("step", ["rl-context", "rl-answer"])
def test_humanomni_v2_trains_on_prompts_that_are_sometimes_right(step: str) -> None:
    recipe = validate(read_recipe(shipped_recipes()["humanomni-v2"]), Recipe)
    band = recipe.steps[step].difficulty
    assert (band.above, band.below, band.samples) == (0, 0.75, 4)
