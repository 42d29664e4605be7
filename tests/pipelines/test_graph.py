"""How a recipe becomes a graph: names are for people, keys are of what is made."""

from typing import Any

import pytest

from omnistage.errors import InputError
from omnistage.recipe.document import (
    Document,
    find_recipe,
    parse_recipe,
    read_recipe,
    validate,
    with_overrides,
)
from omnistage.stage.key import stage_key
from pipelines.graph import Graph, graph_of, launched, needed
from pipelines.recipe import Recipe

WHOLE = ["download", "download_model", "rewrite_paths", "sft", "grpo", "eval"]
CHAIN = """
name: chain
pipeline: post_training
data:
  words: {sources: [{type: tiny}]}
model: {sources: [{type: tiny}]}
steps:
  warm-up: {stage: sft, from: base}
  first: {stage: grpo, from: warm-up, beta: 0.1}
  second: {stage: grpo, from: first, beta: 0.2}
  after-first: {stage: eval, models: [base, first]}
  after-second: {stage: eval}
"""
SETS = """
name: sets
pipeline: post_training
data:
  a: {sources: [{type: tiny}]}
  b: {sources: [{type: tiny}]}
  c: {sources: [{type: tiny}]}
model: {sources: [{type: tiny}]}
steps:
  mixed: {stage: sft, from: base, records: {a: 2, b: 1}}
  alone: {stage: grpo, from: base, records: c}
  ask: {stage: eval, tests: c}
"""


def made(document: Document, *overrides: str) -> Recipe:
    changed = with_overrides(document, overrides, Recipe, within="steps")
    return validate(changed, Recipe)


def recipe(*overrides: str) -> Recipe:
    return made(read_recipe(find_recipe("tiny")), *overrides)


def graph(*overrides: str) -> Graph:
    return graph_of(recipe(*overrides))


def graph_from(text: str, *overrides: str) -> Graph:
    return graph_of(made(parse_recipe(text, "my.yaml"), *overrides))


def keys(steps: Graph) -> dict[str, str]:
    """The key of each step, where what a step makes is called like its key."""
    found: dict[str, str] = {}
    for step in steps.values():
        inputs = {name: found[source] for name, source in step.sources.items()}
        found[step.name] = stage_key(step.stage, step.config, inputs)
    return found


def refused(text: str, *overrides: str) -> list[str]:
    with pytest.raises(InputError) as e:
        graph_from(text, *overrides)
    return str(e.value).splitlines()


def test_the_usual_recipe_is_a_chain_with_an_evaluation_of_all_its_models() -> None:
    assert list(graph()) == WHOLE
    common = {"data": "download", "records": "rewrite_paths"}
    assert graph()["sft"].sources == {**common, "start": "download_model"}
    assert graph()["grpo"].sources == {**common, "start": "sft"}
    assert graph()["eval"].sources == {
        **common,
        "model": "download_model",
        "model_2": "sft",
        "model_3": "grpo",
    }


def test_grpo_from_the_base_model_does_not_have_sft_in_its_key() -> None:
    base = graph("grpo.from=base")
    assert base["grpo"].sources["start"] == "download_model"
    assert keys(base)["grpo"] == keys(graph("grpo.from=base", "sft.learning_rate=1"))["grpo"]
    assert keys(base)["grpo"] != keys(graph())["grpo"]


def test_an_evaluation_needs_the_models_that_it_names_and_what_they_came_from() -> None:
    assert needed(graph("eval.models=[base, sft]"), "eval") == [n for n in WHOLE if n != "grpo"]
    assert needed(graph("eval.models=[grpo]"), "eval") == WHOLE
    assert needed(graph("eval.models=[base]"), "eval") == [
        *("download", "download_model", "rewrite_paths", "eval")
    ]


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
    one = recipe("grpo.reward_weights={mm_format: 1.0}")
    assert Recipe.model_validate(one.model_dump(mode="json")) == one


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


def test_one_setting_of_the_last_step_of_a_chain_changes_that_step_and_its_evaluation() -> None:
    before, after = keys(graph_from(CHAIN)), keys(graph_from(CHAIN, "second.beta=0.3"))
    assert {n for n in before if before[n] != after[n]} == {"second", "after-second"}


def test_two_recipes_that_agree_on_a_step_share_it_whatever_they_call_it() -> None:
    text = CHAIN.replace("warm-up", "cold").replace("first", "one").replace("words", "texts")
    here, there = keys(graph_from(CHAIN)), keys(graph_from(text))
    assert [here[n] for n in ("rewrite_paths", "warm-up", "first", "second")] == [
        there[n] for n in ("rewrite_paths", "cold", "one", "second")
    ]


def test_what_runs_here_decides_no_result() -> None:
    more = graph_from(CHAIN, "second.nproc_per_node=4")
    assert keys(more) == keys(graph_from(CHAIN))
    assert more["second"].runtime is not None
    assert more["second"].runtime.nproc_per_node == 4


def test_each_of_several_data_sets_is_fetched_and_rewritten_by_steps_of_its_own() -> None:
    found = graph_from(SETS)
    own = ("data.b.sources=[{type: tiny, settings: {sft: 8, rl: 8, test: 8}}]",)
    before, after = keys(found), keys(graph_from(SETS, *own))
    changed = {n for n in before if before[n] != after[n]}
    assert changed == {"download-b", "rewrite_paths-b", "mix-mixed", "mixed", "ask"}
    assert [s.parameter for s in found.values() if s.parameter] == [
        *("data_a", "data_b", "data_c", "model")
    ]


def test_a_data_set_more_in_a_mix_leaves_the_others_as_they_are() -> None:
    more = SETS.replace("  c: {", "  d: {sources: [{type: tiny, settings: {sft: 6}}]}\n  c: {")
    more = more.replace("{a: 2, b: 1}", "{a: 2, b: 1, d: 1}")
    before, after = keys(graph_from(SETS)), keys(graph_from(more))
    same = {n for n in before if before[n] == after[n]}
    assert {f"{step}-{name}" for step in ("download", "rewrite_paths") for name in "abc"} <= same
    assert set(after) - set(before) == {"download-d", "rewrite_paths-d"}


def test_records_of_several_sets_are_mixed_and_kept_apart_from_what_is_tested() -> None:
    found = graph_from(SETS)
    mix = found["mix-mixed"]
    assert mix.config.model_dump() == {
        **{"split": "sft", "weights": [2.0, 1.0]},
        **{"mix_until": "first", "seed": 42},
    }
    assert mix.sources == {
        "records": "rewrite_paths-a",
        "records_2": "rewrite_paths-b",
        "tests": "rewrite_paths-c",
    }
    assert found["mixed"].sources == {
        "data": "download-a",
        "data_2": "download-b",
        "records": "mix-mixed",
        "start": "download_model",
    }
    assert found["alone"].sources["records"] == "rewrite_paths-c", "its own tests are apart already"


def test_one_set_beside_which_another_is_tested_is_looked_through_too() -> None:
    found = graph_from(SETS, "ask.tests=[b, c]")
    assert found["mix-alone"].sources == {"records": "rewrite_paths-c", "tests": "rewrite_paths-b"}
    assert found["mix-ask"].sources == {
        "records": "rewrite_paths-b",
        "records_2": "rewrite_paths-c",
    }
    assert found["alone"].sources["data"] == "download-c"


def test_other_models_are_fetched_beside_the_base_model_and_compared_or_trained() -> None:
    found = graph_from(
        CHAIN,
        "other_models.rival={sources: [{type: tiny, settings: {seed: 5}}]}",
        "first.from=rival",
        "after-second.models=[base, rival, second]",
    )
    assert found["download_model-rival"].parameter == "model_rival"
    assert found["first"].sources["start"] == "download_model-rival"
    asked = found["after-second"]
    assert asked.sources["model_2"] == "download_model-rival"
    assert asked.config.model_dump()["models"] == ["base", "rival", "second"]
    # Those that no step names are not asked.
    assert found["after-first"].config.model_dump()["models"] == ["base", "first"]
    assert "warm-up" not in needed(found, "after-second")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("first.from=warmup", "--set steps.first.from: no earlier training step 'warmup'; did you"),
        ("first.from=second", "no earlier training step 'second'; there are base, warm-up"),
        ("second.records=word", "--set steps.second.records: no data set 'word'; did you mean"),
        ("after-first.models=[third]", "no earlier training step 'third'"),
        ("after-first.models=[base, base]", "a model is named twice"),
        ("after-second.tests=x", "--set steps.after-second.tests: no data set 'x'"),
        ("after-first.require={judge.accuracy: '> second'}", "'second' is not evaluated here"),
        ("steps.run={stage: eval}", "this name is taken; choose another"),
        ("steps.Warm={stage: eval}", "a name has up to 40 small letters, digits and hyphens"),
        ("data.more={sources: [{type: tiny}]}", "no step uses this data set"),
        ("other_models.rival={sources: [{type: tiny}]}", "no step uses this model"),
        ("other_models.base={sources: [{type: tiny}]}", "this name is taken; choose another"),
        ("after-first.models=[base, rival]", "no earlier training step 'rival'"),
        ("second.stage=grop", "'grop' is not one of 'sft', 'grpo', 'dpo', 'eval'"),
        ("second.beat=1", "no such setting; did you mean 'beta'?"),
    ],
)
def test_what_a_step_names_wrongly_is_said_where_it_stands(override: str, said: str) -> None:
    assert said in "\n".join(refused(CHAIN, override))


def test_with_several_data_sets_a_step_says_which() -> None:
    text = SETS.replace(", records: c", "")
    assert "my.yaml:11: steps.alone.records: say which: there are a, b, c" in refused(text)
