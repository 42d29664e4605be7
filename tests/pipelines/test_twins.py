"""The tiny twin of a recipe is the same recipe: steps, rewards, formats; ``--tiny`` takes it."""

from pathlib import Path
from typing import Any

import pytest

from omnistage.cli.main import main
from omnistage.recipe.document import find_twin, read_recipe, shipped_recipes, validate
from pipelines.recipe import Recipe
from pipelines.steps import Training, sets_of

REAL = [name for name, path in shipped_recipes().items() if "tiny" in read_recipe(path).values]


def pair(name: str) -> tuple[Recipe, Recipe]:
    path = shipped_recipes()[name]
    document = read_recipe(path)
    twin = read_recipe(find_twin(path, document))
    return validate(document, Recipe), validate(twin, Recipe)


def shape(recipe: Recipe) -> list[dict[str, Any]]:
    """What each step is: all that a twin must not change; data sets by their number."""
    sets = list(recipe.data)
    return [
        {
            "name": name,
            "stage": step.stage,
            "from": step.start if isinstance(step, Training) else None,
            "models": getattr(step, "models", None),
            "sets": {k: list(map(sets.index, v)) for k, v in sets_of(step, recipe.data).items()},
            "mixed": isinstance(getattr(step, "records", None), dict),
            "rewards": getattr(step, "reward_weights", None),
            "estimator": getattr(step, "advantage_estimator", None),
            "protocols": getattr(step, "protocols", None),
        }
        for name, step in recipe.steps.items()
    ]


def forms(recipe: Recipe) -> list[set[tuple[Any, ...]]]:
    """Format, task and prompt of the records of each data set."""
    return [
        {
            (entry.format, entry.task, entry.prompt)
            for split in ("sft", "rl", "test")
            for entry in getattr(section.rewrite_paths, split) or ()
        }
        or {("auto", None, None)}
        for section in recipe.data.values()
    ]


@pytest.mark.parametrize("name", REAL)
def test_a_twin_has_the_same_steps_and_rewards(name: str) -> None:
    real, twin = pair(name)
    assert shape(twin) == shape(real)


@pytest.mark.parametrize("name", REAL)
def test_a_twin_has_data_in_the_same_formats_all_of_it_generated(name: str) -> None:
    real, twin = pair(name)
    assert forms(twin) == forms(real)
    sources = [source for section in twin.data.values() for source in section.sources]
    assert {source.type for source in (*sources, *twin.model.sources)} == {"tiny"}


def test_tiny_takes_the_twin_with_what_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "omnicritic-3b", "--tiny", "--dry-run", "--set", "grpo.beta=-1"]
    assert main(arguments) == 2
    assert "--set steps.grpo.beta: -1 is out of range" in capsys.readouterr().err
    assert main(arguments[:-2]) == 0
    assert "rewrite_paths" in capsys.readouterr().out


def test_a_recipe_without_a_twin_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "tiny", "--tiny", "--dry-run"]) == 2
    assert "it has no tiny twin; tiny: names the file of one" in capsys.readouterr().err


def test_a_twin_that_is_not_there_is_named_with_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ntiny: small/mine.yaml\n")
    assert main(["run", str(path), "--tiny", "--dry-run"]) == 2
    assert f"{path}:2: tiny: no such recipe file: small/mine.yaml" in capsys.readouterr().err
