"""Every task: what an answer says, what it is worth, and what the constant baselines reach."""

import pytest

from components.eval.records import TestRecord, as_test_record
from components.eval.tasks import TASKS
from omnistage.records.record import TASKS as RECORD_TASKS
from tests.components.eval.record_kit import pair, question


def test_every_task_that_a_record_may_have_can_be_evaluated() -> None:
    assert set(TASKS) == set(RECORD_TASKS)


def make(task: str, gold: str) -> TestRecord:
    return as_test_record(question(task, gold), TASKS[task])


@pytest.mark.parametrize(
    ("task", "gold", "answer", "said", "score"),
    [
        ("choice", "<answer>B</answer>", "<answer>(b) a dog</answer>", "B", 1.0),
        ("choice", "B", "<answer>C.</answer>", "C", 0.0),
        ("choice", "B", "It is B.", None, 0.0),
        ("multi_choice", "A,C", "<answer>C, B, A</answer>", "A,B,C", pytest.approx(0.8)),
        ("yes_no", "Yes", "<answer>yes, it does</answer>", "yes", 1.0),
        ("yes_no", "Yes", "<answer>perhaps</answer>", None, 0.0),
        ("emotion", "fear", "<answer> Scared. </answer>", "fear", 1.0),
        ("emotion", "fearful", "<answer>happy</answer>", "happy", 0.0),
        ("math", "$\\frac{1}{2}$", "<answer>0.5</answer>", "0.5", 1.0),
        ("math", "2", "so it is 3", "so it is 3", 0.0),
        ("numeric", "3.14", "<answer>3.141 m</answer>", "3.141 m", 1.0),
        ("numeric", "3.14", "<answer>pi</answer>", None, 0.0),
        ("regression", "100", "<answer>72</answer>", "72", 0.5),
        ("ocr", "one way street", "<answer>one way</answer>", "one way", pytest.approx(2 / 3)),
        ("rec", "[0, 0, 2, 2]", "<answer>[0, 0, 2, 1.5]</answer>", "[0.0,0.0,2.0,1.5]", 1.0),
        ("rec", "[0, 0, 2, 2]", "<answer>[0, 0, 1, 1]</answer>", "[0.0,0.0,1.0,1.0]", 0.0),
        ("free_form", "Red.", "<answer>red</answer>", "red", pytest.approx(2.5 / 3)),
    ],
)
def test_what_an_answer_says_and_what_it_is_worth(
    task: str, gold: str, answer: str, said: str | None, score: float
) -> None:
    record = make(task, gold)
    assert record.error is None
    found = record.task.read(record.row, answer, 0, True)
    assert found == said
    assert record.task.record_score(record.gold, (found,)) == score
    assert record.task.measure([record.gold], [(found,)])[record.task.headline].value == score


@pytest.mark.parametrize("task", [name for name in TASKS if name not in ("judge", "math")])
def test_without_the_format_the_answer_is_looked_for_in_all_of_the_text(task: str) -> None:
    golds = {"yes_no": "yes", "numeric": "3", "regression": "3", "rec": "[0, 0, 2, 2]"}
    gold = golds.get(task, "happy")
    record = make(task, gold)
    assert record.task.read(record.row, gold, 0, True) is None
    assert (
        record.task.record_score(record.gold, (record.task.read(record.row, gold, 0, False),)) > 0.8
    )


def test_a_constant_reaches_what_the_labels_leak() -> None:
    task = TASKS["emotion"]
    golds = ["happy"] * 3 + ["sad"]
    said = task.constants(golds)
    reached = {name: task.measure(golds, each) for name, each in said.items()}
    assert {n: (m["war"].value, m["uar"].value) for n, m in reached.items()} == {
        "always happy": (0.75, 0.5),
        "always sad": (0.25, 0.5),
    }


def test_the_constants_of_numbers_and_boxes_are_their_middle() -> None:
    (median,) = TASKS["regression"].constants(["1", "2 m", "9"]).values()
    assert median == [("2.0",)] * 3
    (box,) = TASKS["rec"].constants(["[0,0,2,2]", "[2,2,4,4]"]).values()
    assert box[0] == ("[1.0,1.0,3.0,3.0]",)


def test_a_box_is_converted_from_the_shown_size_to_the_images_own_pixels() -> None:
    sizes = {"image_size": [1400, 700], "shown_size": [700, 350]}
    row = question("rec", "[200, 100, 400, 200]") | sizes
    assert TASKS["rec"].read(row, "[100, 50, 200, 100]", 0, False) == "[200.0,100.0,400.0,200.0]"


def test_a_judge_reads_the_second_order_under_the_records_own_names() -> None:
    task = TASKS["judge"]
    row = pair(1, "image", "A")
    assert task.read(row, row["solution"], 0, True) == "A"
    assert task.read(row, row["solution"], 1, True) == "B"
    swapped = task.prompts(row)[1]
    assert task.read(row, swapped.solution, 1, True) == "A"


def test_the_report_shows_question_candidates_and_gold() -> None:
    shown = TASKS["judge"].show(pair(1, "audio", "B"))
    assert shown.question == "what colour?"
    assert list(shown.candidates) == [("A", "red"), ("B", "blue")]
    assert shown.gold == "B"
    options = ["A. a cat", "B. a dog"]
    row = question("choice", "<answer>B</answer>", options=options)
    assert TASKS["choice"].show(row).candidates == [("A", "a cat"), ("B", "a dog")]
    assert TASKS["choice"].show(row).gold == "B"
