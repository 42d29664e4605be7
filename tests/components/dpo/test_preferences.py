"""A preference is a gold verdict over its opposite, about the same media."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.dpo.config import DPOSettings
from components.dpo.stage import STAGE, with_preferences
from omnistage.errors import InputError
from omnistage.files import read_jsonl, write_jsonl
from omnistage.records.preference import preference
from omnistage.swift.rows import TrainingRows

VERDICT = {
    "reasoning": "<think>A names the colour, B does not.</think>",
    "score_A": 9,
    "score_B": 2,
    "better": "A",
    "final_verdict": "<answer>[[A]]</answer>",
}


def row(**changes: Any) -> dict[str, Any]:
    prompt = [{"role": "user", "content": "<image>Which is better?"}]
    made = {"id": "r:1", "task": "judge", "messages": prompt, "images": ["/m/1.png"]}
    return made | {"solution": json.dumps(VERDICT)} | changes


def rows(folder: Path, *given: dict[str, Any]) -> TrainingRows:
    path = folder / "rl.jsonl"
    write_jsonl(path, given)
    counts = {"read": len(given), "records": len(given), "rejected": 0}
    return TrainingRows(path, path, folder, counts, {})


def test_the_wrong_side_says_the_opposite_in_the_same_form() -> None:
    answers = preference(row())
    assert answers
    right, wrong = (json.loads(text) for text in answers)
    assert right == VERDICT
    assert list(wrong) == list(right)
    assert (wrong["better"], wrong["score_A"], wrong["score_B"]) == ("B", 2, 9)
    assert wrong["reasoning"] == "<think>B names the colour, A does not.</think>"


@pytest.mark.parametrize(
    "changes",
    [
        {"solution": json.dumps(VERDICT | {"better": "equal", "score_A": 5, "score_B": 5})},
        {"task": "choice", "solution": "A"},
        {"solution": "no verdict"},
    ],
)
def test_without_an_opposite_there_is_no_preference(changes: dict[str, Any]) -> None:
    assert preference(row(**changes)) is None


def test_both_sides_have_the_prompt_and_the_media(tmp_path: Path) -> None:
    tie = row(id="r:2", solution='{"better": "equal"}')
    made = with_preferences(rows(tmp_path, row(), tie))
    assert made.counts == {"read": 2, "records": 1, "rejected": 0, "undecided": 1}
    (pair,) = read_jsonl(made.path)
    assert pair["images"] == ["/m/1.png"]  # of a row without rejected_images: of both sides
    assert "rejected_images" not in pair
    assert [m["role"] for m in pair["messages"]] == ["user", "assistant"]
    assert json.loads(pair["messages"][-1]["content"])["better"] == "A"
    assert json.loads(pair["rejected_response"])["better"] == "B"


def test_records_without_any_preference_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no record has a preference"):
        with_preferences(rows(tmp_path, row(task="math", solution="4")))


def test_all_weights_make_a_checkpoint_and_an_adapter_otherwise() -> None:
    assert STAGE.kind_of(DPOSettings(tuner="full")) == "RLCheckpoint"
    assert STAGE.kind_of(DPOSettings()) == "LoRAAdapter"
