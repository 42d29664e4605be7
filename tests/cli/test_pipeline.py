"""The command line with the real pipeline, through ``kfp.local``, as far as the first stage."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omnistage.cli import main as cli
from omnistage.recipe.document import read_recipe, shipped_recipes, validate, with_overrides
from omnistage.store.folder import FolderStore
from pipelines.graph import graph_of, needed
from pipelines.recipe import Recipe
from tests.store.store_kit import store_results

STEPS = ["download", "download_model", "rewrite_paths", "sft", "grpo", "eval"]
SMALL = "data.tiny.sources.0.settings={sft: 6, rl: 6, test: 6}"


def show(capsys: pytest.CaptureFixture[str], home: Path) -> list[Any]:
    assert cli.main(["show", "--all", "--json", "--home", str(home)]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_is_right_and_described(name: str) -> None:
    recipe = validate(read_recipe(shipped_recipes()[name]), Recipe)
    assert recipe.name == name
    assert recipe.description


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "grpo.learnin_rate=1",
            "--set steps.grpo.learnin_rate: no such setting; did you mean 'lea",
        ),
        (
            "grpo.learning_rate=-1",
            "--set steps.grpo.learning_rate: -1 is out of range: allowed is > 0",
        ),
        ("sft.media.fsp=1", "--set steps.sft.media.fsp: no such setting; did you mean 'fps'?"),
        ("seed=many", "--set seed: must be a valid integer, not 'many'; allowed is ≥ 0"),
        (
            "data.tiny.sources=[{type: hubb, repo: x}]",
            "sources.0: 'hubb' is not one of 'folder'",
        ),
        ("data.tiny.token=hf_x", "--set data.tiny.token: a recipe holds no secrets"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_place(
    capsys: pytest.CaptureFixture[str], override: str, said: str
) -> None:
    assert cli.main(["run", "tiny", "--dry-run", "--set", override]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_recipes_lists_what_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert listed == list(shipped_recipes())


@pytest.mark.pipeline
def test_two_runs_at_once_on_one_store_make_the_data_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "omnistage", "run", "tiny", "--set", SMALL]
    options = ["--to", "download", "--home", str(tmp_path)]
    both = [subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(300) for process in both] == [0, 0]
    runs = show(capsys, tmp_path)
    assert [run["state"] for run in runs] == ["done", "done"]
    (first,), (second,) = (run["stages"] for run in runs)
    assert {first["state"], second["state"]} == {"done", "cached"}
    assert first["key"] == second["key"]
    assert (
        first["uri"]
        == second["uri"]
        == (tmp_path / "store").as_uri() + "/download/" + (first["key"] + "/content")
    )
    assert (tmp_path / "store" / "download" / first["key"] / "content" / "index.jsonl").is_file()


@pytest.mark.pipeline
def test_steps_before_from_are_taken_from_the_store_or_the_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--set", SMALL, "--from", "rewrite_paths", "--home", str(tmp_path)]
    assert cli.main(["run", "tiny", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("omnistage: error: download")
    assert "the store has no result" in said
    (run,) = show(capsys, tmp_path)
    assert (run["state"], run["exit_code"]) == ("failed", 2)
    assert [s["stage"] for s in run["stages"]] == STEPS


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["grpo.from=base", "eval.models=[base, grpo]"], ["grpo", "eval"]),
        (["eval.models=[base, sft]"], ["sft", "eval"]),
    ],
)
def test_a_run_to_an_evaluation_leaves_out_what_that_does_not_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], steps: list[str]
) -> None:
    """Through ``kfp.local``, whose tasks take the results that are in the store."""
    document = with_overrides(
        read_recipe(shipped_recipes()["tiny"]), overrides, Recipe, within="steps"
    )
    graph = graph_of(validate(document, Recipe))
    names = needed(graph, "eval")
    assert names == ["download", "download_model", "rewrite_paths", *steps]
    store_results(FolderStore(tmp_path / "store"), graph, names, tmp_path)
    settings = [word for override in overrides for word in ("--set", override)]
    assert cli.main(["run", "tiny", *settings, "--to", "eval", "--home", str(tmp_path)]) == 0
    capsys.readouterr()
    (run,) = show(capsys, tmp_path)
    assert {s["stage"]: s["state"] for s in run["stages"]} == dict.fromkeys(names, "cached")
    assert Path(run["report"]).read_text() == "<html>"


@pytest.mark.parametrize(
    ("stage", "stages"),
    [
        ("download_model", ["download_model"]),
        ("rewrite_paths", ["download", "rewrite_paths"]),
        ("sft", ["download", "download_model", "rewrite_paths", "sft"]),
        ("eval", STEPS),
    ],
)
def test_a_run_to_a_step_has_its_upstream_steps_and_nothing_else(
    stage: str,
    stages: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a line for each stage
    arguments = ["--set", SMALL, "--to", stage, "--dry-run", "--home", str(tmp_path)]
    assert cli.main(["run", "tiny", *arguments]) == 0
    planned = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert planned == stages


def test_a_run_cannot_begin_at_a_step_that_its_last_one_does_not_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--from", "download_model", "--to", "rewrite_paths", "--home", str(tmp_path)]
    assert cli.main(["run", "tiny", *arguments]) == 2
    said = "--from download_model: rewrite_paths does not need it, so it is not run"
    assert said in capsys.readouterr().err
