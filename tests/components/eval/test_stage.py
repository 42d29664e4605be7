"""The evaluation's own logic: both orders, grading, which models are asked."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from components.eval.generate import answered
from components.eval.tasks.pairwise import (
    SWAPPED,
    judgements_of,
    prompts_of,
    read_test_records,
    report_record,
)
from omnistage.errors import InputError, StageFailedError
from omnistage.files import write_jsonl


def verdict(a: int, b: int, better: str) -> str:
    return json.dumps(
        {
            "reasoning": "<think>It is red.</think>",
            "score_A": a,
            "score_B": b,
            "better": better,
            "final_verdict": f"<answer>[[{better}]]</answer>",
        }
    )


def record(number: int, medium: str, better: str = "A", root: str = "") -> dict[str, Any]:
    a, b = (9, 1) if better == "A" else (1, 9)
    return {
        "id": f"r{number}",
        "source": "s",
        "task": "judge",
        "messages": [
            {"role": "system", "content": "Judge."},
            {
                "role": "user",
                "content": f"<{medium}>\nQuestion: what colour?\nResponse A: red\nResponse B: blue",
            },
        ],
        f"{medium}s": [f"{root}m{number}"],
        "solution": verdict(a, b, better),
    }


def test_every_pair_is_asked_in_both_orders_and_batches_are_of_one_medium() -> None:
    prompts = prompts_of([record(1, "video"), record(2, "image"), record(3, "video")])
    assert [p["id"] for p in prompts] == [
        *("r1", "r1#swapped", "r3", "r3#swapped"),
        *("r2", "r2#swapped"),
    ] or [p["id"] for p in prompts] == [
        *("r2", "r2#swapped"),
        *("r1", "r1#swapped", "r3", "r3#swapped"),
    ]
    texts = {p["id"]: p["messages"][1]["content"] for p in prompts}
    assert "Response A: red\nResponse B: blue" in texts["r1"]
    assert "Response A: blue\nResponse B: red" in texts["r1" + SWAPPED]


def test_the_swapped_answer_is_graded_against_the_swapped_gold() -> None:
    """Given a judge that always says A, 9 to 1: with gold A it is right in the first order and
    wrong in the second, and its content reward is the mean of 1.0 and −.6 − .24 = −.84."""
    rows = [record(1, "image", "A")]
    always_a = verdict(9, 1, "A")
    answers = {"r1": always_a, "r1" + SWAPPED: always_a}
    (got,) = judgements_of(rows, answers, ["mm_content", "mm_format"])
    assert (got["first"]["better"], got["second"]["better"]) == ("A", "B")
    assert got["gold"] == "A"
    # second order: |9-1| + |1-9| = 16, so .6 * -1 + .4 * (1 - 2 * 16 / 20) = -.6 - .24
    assert got["rewards"]["mm_content"] == pytest.approx((1.0 - 0.84) / 2)
    assert got["rewards"]["mm_format"] == pytest.approx(1.0)


def test_an_answer_that_is_no_verdict_is_invalid_and_kept_as_it_is() -> None:
    answers = {"r1": "I like A", "r1" + SWAPPED: verdict(1, 9, "B")}
    (got,) = judgements_of([record(1, "image")], answers, ["mm_content"])
    assert got["first"] == {"text": "I like A", "valid": False, "better": None}
    assert got["second"]["better"] == "A"


def test_a_missing_answer_is_a_failure_not_a_wrong_answer() -> None:
    with pytest.raises(StageFailedError, match="1 answers are missing, the first of r1"):
        judgements_of([record(1, "image")], {"r1": verdict(9, 1, "A")}, ["mm_content"])


def test_an_answer_cut_short_by_a_kill_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "sft.0.jsonl"
    path.write_text('{"id": "r1", "text": "x"}\n{"id": "r2", "te')
    write_jsonl(tmp_path / "sft.1.jsonl", [{"id": "r3", "text": "z"}])
    write_jsonl(tmp_path / "grpo.0.jsonl", [{"id": "r9", "text": "other model"}])
    assert answered(tmp_path, "sft") == {"r1": "x", "r3": "z"}
    assert path.read_text() == '{"id": "r1", "text": "x"}\n'


def test_test_records_must_be_pairs_with_their_media_there(tmp_path: Path) -> None:
    (tmp_path / "m1").touch()
    path = tmp_path / "test.jsonl"
    write_jsonl(path, [record(1, "image"), record(2, "image")])
    with pytest.raises(InputError, match=r"test.jsonl:2 \(r2\): no file .*m2"):
        read_test_records(path, tmp_path, tmp_path, None)
    assert [r["id"] for r in read_test_records(path, tmp_path, tmp_path, 1)] == ["r1"]
    other = record(1, "image") | {"task": "emotion"}
    write_jsonl(path, [other])
    with pytest.raises(InputError, match=r"task 'emotion' without two candidates"):
        read_test_records(path, tmp_path, tmp_path, None)
    path.write_text("")
    with pytest.raises(InputError, match="no test records"):
        read_test_records(path, tmp_path, tmp_path, None)


def test_the_report_shows_question_candidates_and_medium() -> None:
    shown = report_record(record(1, "audio", "B", root="/media/"))
    assert (shown.question, shown.response_a, shown.response_b) == ("what colour?", "red", "blue")
    assert (shown.gold, shown.media, shown.media_type) == ("B", Path("/media/m1"), "audio")
    assert cast(str, shown.modality) == "audio"
