"""The system turn that a recipe gives to rows which have none."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.rewrite_paths.config import Records
from omnistage.settings import key_config
from tests.components.rewrite_paths.rewrite_kit import judge_row, rewrite
from tests.components.rewrite_paths.row_kit import chat, read

GIVEN = {"role": "system", "content": "Answer within <answer> </answer>."}
RL: list[dict[str, Any]] = [{"files": ["rl.jsonl"], "system": GIVEN["content"]}]


def test_rows_without_a_system_turn_get_it(tmp_path: Path) -> None:
    rows = [{"problem": "q", "solution": "a"}, chat(("system", "own"), ("user", "q"), solution="a")]
    done = read(tmp_path, "rl", *rows, rl=RL)
    turns = [row["messages"][0] for row in done.rows("rl")]
    assert turns == [GIVEN, {"role": "system", "content": "own"}]


def test_plain_rows_of_a_judge_get_it_too(tmp_path: Path) -> None:
    """Such rows are otherwise put together without being parsed."""
    row = judge_row("p/0.png")
    del row["messages"][0]
    done = rewrite(tmp_path, {"rl.jsonl": [row] * 4}, ["p/0.png"], rl=RL)
    assert [r["messages"][0] for r in done.rows("rl")] == [GIVEN] * 4


def test_a_tag_of_a_medium_is_refused() -> None:
    with pytest.raises(ValidationError, match="<video> stands for a medium"):
        Records(files=["x"], system="see <video>")


def test_a_recipe_without_it_has_the_key_that_it_had() -> None:
    assert "system" not in key_config(Records(files=["x"]))
