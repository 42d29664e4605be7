"""A recipe with anything in the place of anything becomes a graph or one clear error."""

import copy
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistage.errors import InputError
from omnistage.recipe.document import find_recipe, parse_recipe, validate
from pipelines.graph import graph_of
from pipelines.post_training import compile_packages
from pipelines.recipe import Recipe
from tests.pipelines.kfp_tasks import package_tasks

RECIPES = [yaml.safe_load(find_recipe(name).read_text()) for name in ("tiny", "omnicritic-3b-lora")]
Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where something stands in a recipe."""
    if path:
        yield path
    inner = enumerate(value) if isinstance(value, list) else ()
    for key, item in value.items() if isinstance(value, dict) else inner:
        yield from places(item, (*path, key))


PLACES = {n: list(places(recipe)) for n, recipe in enumerate(RECIPES)}
TEXTS = st.sampled_from(["", "../x", "/etc", "base", "s3://a/b", "{{$.x}}", "\x85", "9" * 500])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.text(max_size=9)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_recipe_with_any_value_anywhere_is_read_or_refused_in_few_lines(data: Any) -> None:
    number = data.draw(st.integers(0, len(RECIPES) - 1))
    recipe = copy.deepcopy(RECIPES[number])
    *way, last = data.draw(st.sampled_from(PLACES[number]))
    there = recipe
    for key in way:
        there = there[key]
    there[last] = data.draw(VALUES)
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    said = None
    try:
        assert "download_model" in graph_of(validate(parse_recipe(text, "my.yaml"), Recipe))
    except InputError as e:
        said = str(e)
    assert said is None or (said.startswith("my.yaml") and len(said.splitlines()) < 20)


@pytest.mark.parametrize("text", ["&a [*a]", "a: &a {b: *a}", "{" * 2000, "a: !!python/none x"])
def test_yaml_that_no_recipe_needs_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^my\.yaml"):
        validate(parse_recipe(text, "my.yaml"), Recipe)


def test_text_of_a_recipe_is_no_placeholder_of_kfp_or_argo(tmp_path: pathlib.Path) -> None:
    """Both fill ``{{…}}`` wherever they find it, KFP even while it compiles."""
    text = "{{channel:task=a;name=b;type=String;}} {{$.pipeline_job_name}} {{{workflow.name}}}"
    document = {
        "name": "braces",
        "description": text,
        "pipeline": "post_training",
        "data": {
            "d": {
                "sources": [{"type": "s3", "uri": "s3://b/p/"}],
                "rewrite_paths": {"rl": [{"files": ["*.jsonl"], "system": text}]},
            }
        },
        "model": {"sources": [{"type": "tiny"}]},
        "steps": {"grpo": {"stage": "grpo", "from": "base"}},
    }
    recipe = validate(parse_recipe(yaml.safe_dump(document), "my.yaml"), Recipe)
    images = {name: f"r.example/{name}@sha256:{'1' * 64}" for name in ("launcher", "trainer")}

    (package,) = compile_packages(recipe, tmp_path, "s3://b/s", images, only=["post_training"])

    written = package.read_text()
    assert not [name for name in ("channel", "$.", "workflow") if "{{" + name in written]
    configs = {t.title: t.parameters.get("config", "") for t in package_tasks(package)}
    assert json.loads(configs["rewrite_paths"])["rl"][0]["system"] == text
