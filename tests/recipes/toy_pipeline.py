"""A pipeline of two stages that do what the recipe's ``play`` says; see ``fake_child.py``."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from omnistage.settings import Settings


class Train(Settings):
    learning_rate: float = Field(default=1e-4, gt=0, le=1, description="Peak learning rate.")


class Recipe(Settings):
    name: str
    description: str = ""
    pipeline: Literal["toy"]
    seed: int = Field(default=1, ge=0, description="Of everything random.")
    sft: Train = Train()
    play: list[list[Any]] = Field(default=[])


class Planned(NamedTuple):
    name: str
    key: str | None
    cached: bool | None
    reason: str


STAGES = {"download": "a stage", "sft": "a stage", "eval": "a stage"}


def needed(stage: str) -> list[str]:
    names = list(STAGES)
    return names[: names.index(stage) + 1]


def plan(recipe: Recipe, store: str) -> list[Planned]:
    return [
        Planned("download", "d0d0", True, "in the store"),
        Planned("sft", "5f75", False, f"not in the {Path(store).name}"),
        Planned("eval", None, None, "waits for sft"),
    ]


class ClusterNames(NamedTuple):
    hub_secret: str
    launch_config: str
    store_claim: str


def compile_packages(
    recipe: Recipe,
    folder: Path,
    store: str,
    images: dict[str, str],
    *,
    names: ClusterNames,
    caching: bool,
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    package = folder / f"{recipe.name}.yaml"
    package.write_text(f"{store} {sorted(images.items())} {names.hub_secret} {caching}")
    return [package]
