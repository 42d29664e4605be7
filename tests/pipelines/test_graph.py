"""How a recipe becomes a graph: what is not used is not run and does not count."""

from typing import Any

import pytest

from omnistage.recipe.document import find_recipe, read_recipe, validate, with_overrides
from omnistage.stage.key import stage_key
from pipelines.graph import Graph, graph_of, last_step, launched, needed
from pipelines.recipe import Recipe

WHOLE = ["download", "download_model", "rewrite_paths", "sft", "grpo", "eval"]


def recipe(*overrides: str) -> Recipe:
    return validate(with_overrides(read_recipe(find_recipe("tiny")), overrides, Recipe), Recipe)


def graph(*overrides: str) -> Graph:
    return graph_of(recipe(*overrides))


def run_of(*overrides: str) -> list[str]:
    found = graph(*overrides)
    return needed(found, last_step(found))


def key(name: str, *overrides: str) -> str:
    """The key of a step whose upstream steps made something called like them."""
    step = graph(*overrides)[name]
    return stage_key(step.stage, step.config, dict(step.sources))


def test_a_recipe_as_it_is_runs_every_step() -> None:
    assert run_of() == WHOLE
    assert graph()["eval"].sources == {
        "data": "download",
        "records": "rewrite_paths",
        "model": "download_model",
        "sft": "sft",
        "grpo": "grpo",
    }


def test_grpo_from_the_base_model_neither_trains_sft_nor_has_it_in_its_key() -> None:
    base = ("grpo.start_from=base", "eval.models=[base, grpo]")
    assert run_of(*base) == [n for n in WHOLE if n != "sft"]
    assert "sft" not in graph(*base)["grpo"].sources
    assert key("grpo", *base) == key("grpo", *base, "sft.learning_rate=1")
    assert key("grpo") != key("grpo", *base)


def test_an_evaluation_without_grpo_does_not_need_it() -> None:
    models = "eval.models=[base, sft]"
    assert run_of(models) == [n for n in WHOLE if n != "grpo"]
    assert "grpo" not in graph(models)["eval"].sources


def test_an_evaluation_of_grpo_has_the_model_that_its_adapter_belongs_on() -> None:
    assert "sft" in graph("eval.models=[base, grpo]")["eval"].sources
    base = "grpo.start_from=base"
    assert "sft" not in graph("eval.models=[base, grpo]", base)["eval"].sources


def test_an_evaluation_of_the_base_model_trains_nothing() -> None:
    assert run_of("eval.models=[base]") == ["download", "download_model", "rewrite_paths", "eval"]


def test_a_step_that_the_last_does_not_need_can_still_be_run_to() -> None:
    assert needed(graph("eval.models=[base]"), "grpo") == WHOLE[:-1]


@pytest.mark.parametrize(
    ("last", "steps"),
    [
        ("download_model", ["download_model"]),
        ("rewrite_paths", ["download", "rewrite_paths"]),
        ("sft", WHOLE[:4]),
    ],
)
def test_a_run_to_a_step_has_its_upstream_steps_and_nothing_else(
    last: str, steps: list[str]
) -> None:
    assert needed(graph(), last) == steps


def test_a_recipe_read_back_from_its_json_is_the_same() -> None:
    """What `omnistage run` hands to its child process."""
    made = recipe("grpo.reward_weights={mm_format: 1.0}")
    assert Recipe.model_validate(made.model_dump(mode="json")) == made


def test_the_seed_goes_to_every_step_that_has_one_and_does_not_set_it() -> None:
    found = recipe("seed=9", "grpo.seed=8")
    seeds: dict[str, Any] = {n: getattr(s.config, "seed", None) for n, s in graph_of(found).items()}
    assert seeds == {
        "download": None,
        "download_model": None,
        "rewrite_paths": 9,
        "sft": 9,
        "grpo": 8,
        "eval": 9,
    }


def test_the_tiny_base_model_is_made_by_a_job_since_it_takes_torch() -> None:
    assert launched(graph()) == ["download_model", "sft", "grpo", "eval"]
    hub = "model.sources=[{type: hub, repo: a/b, revision: main}]"
    assert launched(graph(hub)) == ["sft", "grpo", "eval"]
