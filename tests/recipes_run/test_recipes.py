"""A recipe's tiny twin runs to its report and shows the recipe's point.

The bar of each stands beside the twin: by how much a step's mean reward rises from the first
quarter of its steps to the last, and what its reports must show.
"""

import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest

from components.eval.gate import check_gate
from omnistage.files import read_json, read_jsonl
from omnistage.recipe.document import read_recipe
from omnistage.store.folder import FolderStore
from omnistage.swift.training.curve import read_curve
from tests.recipes_run.kit import TWINS, bars_of, run


@pytest.mark.parametrize("name", [n for n, twin in TWINS.items() if bars_of(twin).exists()])
def test_a_recipe_shows_its_point_in_small(name: str, store: FolderStore) -> None:
    made = run(name, store)
    bars = read_recipe(bars_of(TWINS[name])).values
    assert set(bars) == {"rewards", "reports"}
    for step, least in bars["rewards"].items():
        found = rise(store.local(made[step].manifest))
        assert found >= least, f"{step}: the mean reward rose by {found:.3f}, {least} is wanted"
    for step, required in bars["reports"].items():
        folder = store.local(made[step].manifest)
        check_gate(read_json(folder / "report.json"), required, str(folder))


def test_the_command_runs_a_twin_to_the_report_of_its_recipe(
    store: FolderStore, tmp_path: Path
) -> None:
    """Given its steps in the store, when a person runs the recipe, none is made anew."""
    run("r1-omni", store)
    command = ["run", "r1-omni", "--tiny", "--home", str(tmp_path), "--store", store.uri]
    done = subprocess.run(
        [sys.executable, "-m", "omnistage", *command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = Path(done.stdout.splitlines()[-1])
    assert report.name == "report.html"
    finished = [r for r in read_jsonl(report.parent / "events.jsonl") if r["event"] == "finished"]
    assert {r["stage"] for r in finished if not r["cached"]} == set()


def rise(trained: Path) -> float:
    """Return the mean reward of the last quarter of a step's steps less that of the first.

    Of DPO it is the share of preferences that are right.
    """
    curve = read_curve(trained / "logs" / "logging.jsonl")
    name = "reward" if "reward" in curve[0] else "rewards/accuracies"
    rewards = [row[name] for row in curve]
    quarter = len(rewards) // 4
    return fmean(rewards[-quarter:]) - fmean(rewards[:quarter])
