"""Grading: both orders, invalid answers, error rows, rewards."""

import pytest

from components.eval.grading import Answer, grade
from components.eval.records import as_test_record
from components.eval.tasks import TASKS
from omnistage.errors import StageFailedError
from tests.components.eval.record_kit import pair, question, verdict


def judge(better: str = "A"):
    return as_test_record(pair(1, "image", better), TASKS["judge"])


def text(*answers: str) -> dict[str, dict[str, str]]:
    return {i: {"text": a} for i, a in zip(("r1", "r1#2"), answers, strict=True)}


def test_the_swapped_answer_is_graded_against_the_swapped_gold() -> None:
    """Given a judge that always says A, 9 to 1: with gold A it is right in the first order and
    wrong in the second, and its content reward is the mean of 1.0 and −.6 − .24 = −.84."""
    always_a = verdict(9, 1, "A")
    (got,) = grade([judge()], text(always_a, always_a), ["mm_content", "mm_format"])
    assert got.said == ("A", "B")
    assert got.score == 0.5
    # second order: |9-1| + |1-9| = 16, so .6 * -1 + .4 * (1 - 2 * 16 / 20) = -.6 - .24
    assert got.rewards["mm_content"] == pytest.approx((1.0 - 0.84) / 2)
    assert got.rewards["mm_format"] == pytest.approx(1.0)


def test_an_answer_that_is_no_verdict_is_invalid_and_kept_as_it_is() -> None:
    (got,) = grade([judge()], text("I like A", verdict(1, 9, "B")), ["mm_content"])
    assert got.answers[0] == Answer("I like A")
    assert got.said == (None, "A")
    assert got.score == 0.5


def test_strict_reading_demands_the_format_and_lenient_reading_does_not() -> None:
    short = '{"score_A": 9, "score_B": 1, "better": "A"}'
    answers = text(short, verdict(1, 9, "B"))
    assert grade([judge()], answers)[0].said == (None, "A")
    assert grade([judge()], answers, strict=False)[0].said == ("A", "A")


def test_a_missing_answer_is_a_failure_not_a_wrong_answer() -> None:
    with pytest.raises(StageFailedError, match="1 answers are missing, the first of r1#2"):
        grade([judge()], {"r1": {"text": verdict(9, 1, "A")}}, ["mm_content"])


def test_an_error_row_counts_as_wrong_and_says_why() -> None:
    failed = {"error": "UnidentifiedImageError: cannot identify m1"}
    (got,) = grade([judge()], {"r1": failed, "r1#2": failed})
    assert (got.score, got.said) == (0.0, (None, None))
    assert got.error == failed["error"]
    row = got.row(judge())
    assert (row["gold"], row["score"], row["first"]["error"]) == ("A", 0.0, failed["error"])


def test_a_record_that_cannot_be_asked_is_graded_without_an_answer() -> None:
    broken = as_test_record(question("numeric", "many"), TASKS["numeric"])
    (got,) = grade([broken], {})
    assert (got.score, got.error) == (0.0, "the gold answer 'many' is not a number")
