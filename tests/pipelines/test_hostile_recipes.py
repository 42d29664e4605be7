"""A recipe with anything in the place of anything becomes a graph or one clear error."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistage.errors import InputError
from omnistage.recipe.document import find_recipe, parse_recipe, validate
from pipelines.graph import graph_of
from pipelines.recipe import Recipe

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
