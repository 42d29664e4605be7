"""``omnistage rewards``: list, score, audit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omnistage import rewards
from omnistage.cli.main import main
from omnistage.rewards import REWARDS


@pytest.fixture(autouse=True)
def _tables_are_left_as_they_were() -> Iterator[None]:
    """An own reward is registered for the process, which other tests share."""
    tables: list[Any] = [rewards.REWARDS, rewards.RANGES, rewards.METRIC_NAMES]
    before = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)


def test_every_reward_is_listed(capsys: pytest.CaptureFixture[str]):
    assert main(["rewards", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in REWARDS)


def test_completions_are_scored_by_a_recipes_mix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = [
        {"completion": "<answer>happy</answer>", "solution": "happy"},
        {"completion": "sad", "solution": "happy"},
    ]
    file = tmp_path / "x.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["rewards", "score", str(file), "r1omni_accuracy=2", "r1omni_format"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"line": 1, "total": 2.0, "r1omni_accuracy": 1.0, "r1omni_format": 0.0},
        {"line": 2, "total": 0.0, "r1omni_accuracy": 0.0, "r1omni_format": 0.0},
    ]


def test_a_runs_table_of_completions_is_scored_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    table = {"step": ["1", "1"], "completion": ["<answer>a</answer>", "b"], "solution": ["a", "b"]}
    (tmp_path / "completions.jsonl").write_text(json.dumps(table) + "\n")
    assert main(["rewards", "score", str(tmp_path / "completions.jsonl"), "r1omni_accuracy"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["total"] for line in lines] == [1.0, 0.0]


def test_no_shipped_recipe_can_be_cheated(capsys: pytest.CaptureFixture[str]):
    assert main(["rewards", "audit"]) == 0, capsys.readouterr().out


def test_what_can_be_cheated_is_said_with_the_part_that_pays(capsys: pytest.CaptureFixture[str]):
    assert main(["rewards", "audit", "mm_format=.4", "mm_content=.4", "mm_rubric=.2"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "keyword-stuffed" in line]
    assert [line.split()[-1] for line in lines] == ["mm_rubric"]


def test_an_own_reward_is_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "long.py").write_text(
        "def prefers_long(completions, **columns):\n"
        "    return [len(text) / 100 for text in completions]\n"
    )
    own = f"{tmp_path}/long.py:prefers_long"
    assert main(["rewards", "audit", "r1omni_accuracy", own]) == 1
    assert "long.py:prefers_long" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit", "mm_format=much"], "'much' is no weight"),
        (["audit", "mm_fromat"], "no recipe 'mm_fromat'"),
        (["audit", "nowhere.py:f"], "nowhere.py: cannot be read"),
        (["score", "x.jsonl", "mm_format"], "x.jsonl"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["rewards", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_samples_of_one_record_are_scored_with_its_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    row = {"completion": ["<answer>4</answer>", "<answer>5</answer>"], "solution": "4"}
    (tmp_path / "c.jsonl").write_text(json.dumps(row) + "\n")

    assert main(["rewards", "score", str(tmp_path / "c.jsonl"), "r1omni_accuracy"]) == 0
    assert [json.loads(line)["total"] for line in capsys.readouterr().out.splitlines()] == [1, 0]


@pytest.mark.parametrize("text", ["", '{"completion": null, "solution": "4"}\n'])
def test_a_file_without_a_completion_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "c.jsonl").write_text(text)

    assert main(["rewards", "score", str(tmp_path / "c.jsonl"), "r1omni_accuracy"]) == 2
    assert "completion" in capsys.readouterr().err
