"""Options in every rotation: what is asked, and what a bias for a place looks like."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.eval.grading import grade
from components.eval.metrics.positions import by_place, rotation_metrics
from components.eval.records import TestRecord, as_test_record, prompts_of
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import Report, build_report
from components.eval.tasks import TASKS
from components.eval.variants.rotations import find_options, rotated_answers, rotated_prompts
from tests.components.eval.record_kit import question
from tests.components.eval.report_kit import read


def record(
    asked: str, options: list[str], gold: str = "A", number: int = 1, task: str = "choice"
) -> TestRecord:
    messages = [{"role": "system", "content": "Answer."}, {"role": "user", "content": asked}]
    row = question(task, gold, number, messages=messages, options=options)
    return as_test_record(row, TASKS[task])


def animals(number: int = 1, gold: str = "B") -> TestRecord:
    asked = "Which one?\nA. a cat\nB. a dog\nC. an ox\nAnswer with its letter."
    return record(asked, ["A. a cat", "B. a dog", "C. an ox"], gold, number)


def test_every_option_stands_once_in_every_place() -> None:
    one = animals()
    asked = [p["messages"][1]["content"] for p in rotated_prompts([one], prompts_of([one]))]
    assert asked == [
        "Which one?\nA. an ox\nB. a cat\nC. a dog\nAnswer with its letter.",
        "Which one?\nA. a dog\nB. an ox\nC. a cat\nAnswer with its letter.",
    ]
    assert one.prompts[0].messages[1]["content"].startswith("Which one?\nA. a cat")


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ("Is it (A) red, (B) blue or (C) green?", ["red", "blue", "green"]),
        ("Which? A: 1 B: 11 C: 111", ["1", "11", "111"]),
        ("A cat? A) yes; B) no", ["(A) yes", "(B) no"]),
    ],
)
def test_lists_in_a_line_are_found_too(asked: str, options: list[str]) -> None:
    found = find_options(record(asked, options))
    assert found
    texts = [asked[start:end] for start, end in found.spans]
    assert texts == [option.removeprefix(f"({'AB'[n % 2]}) ") for n, option in enumerate(options)]


@pytest.mark.parametrize(
    ("asked", "options", "task"),
    [
        ("Which?", ["A. a cat", "B. a dog"], "choice"),
        ("Which?\nA. a cat\nB. a dog\nAgain:\nA. a cat\nB. a dog", ["a cat", "a dog"], "choice"),
        ("Which?\nA. a cat\nB. none of the above", ["a cat", "none of the above"], "choice"),
        ("Which?\nA. a cat\nB. a dog", ["a cat", "a dog"], "multi_choice"),
        ("Which?\nA. a cat", ["a cat"], "choice"),
    ],
    ids=["not listed", "listed twice", "about the others", "another task", "one option"],
)
def test_what_cannot_be_rotated_stays(asked: str, options: list[str], task: str) -> None:
    one = record(asked, options, task=task)
    assert rotated_prompts([one], prompts_of([one])) == []
    assert rotated_answers([one], {}, strict=True) == {}


@given(st.lists(st.text("abc xyz.,()", min_size=1).map(str.strip), min_size=2, max_size=5))
def test_a_rotation_only_moves_the_options(options: list[str]) -> None:
    lines = [f"{chr(ord('A') + n)}. {option}" for n, option in enumerate(options)]
    one = record("Q\n" + "\n".join(lines), lines)
    for prompt in rotated_prompts([one], prompts_of([one])):
        moved = prompt["messages"][1]["content"]
        assert sorted(moved) == sorted(one.prompts[0].messages[1]["content"])
        assert moved.startswith("Q\nA. ")


Model = Callable[[dict[str, Any]], str]


def position(prompt: dict[str, Any]) -> str:
    return "A"


def content(prompt: dict[str, Any]) -> str:
    lines = prompt["messages"][1]["content"].splitlines()
    return next(line[0] for line in lines if line.endswith("a dog"))


def reported(records: list[TestRecord], models: dict[str, Model]) -> Report:
    prompts = prompts_of(records)
    asked = [*prompts, *rotated_prompts(records, prompts)]
    results, rotated = [], {}
    for name, model in models.items():
        answers = {p["id"]: {"text": f"<answer>{model(p)}</answer>"} for p in asked}
        results.append(ModelResult(name, grade(records, answers)))
        rotated[name] = rotated_answers(records, answers, strict=True)
    data = ReportData("r", results, records, {}, rotated=rotated, bootstrap_samples=100)
    return build_report(data)


def test_a_model_by_place_is_told_from_one_by_content() -> None:
    """Given a model that always says A, where A is always right, and one that finds the dog."""
    records = [animals(n, "A") for n in range(4)]
    report = reported(records, {"place": position, "content": content})
    of = report.json["tasks"]["choice"]["positions"]["models"]
    values = {n: {k: v["value"] for k, v in m["metrics"].items()} for n, m in of.items()}
    assert of["place"]["given"]["value"] == 1.0
    assert values["place"] == {
        "accuracy": pytest.approx(1 / 3),
        "circular": 0.0,
        "consistency": 0.0,
        "valid": 1.0,
    }
    assert of["place"]["by_place"] == {"A": 1.0, "B": 0.0, "C": 0.0}
    assert values["content"]["consistency"] == 1.0
    assert values["content"]["accuracy"] == 0.0
    row = read(report.html).row("positions-choice", "place")
    assert (row["Names A"], row["Same option"][:4]) == ("100.0%", "0.0%")
    assert "place names the same option in 0.0% of the questions" in report.html
    assert "place, options in every rotation, 4 records" in report.markdown


def test_without_any_valid_answer_there_is_no_consistency() -> None:
    report = reported([animals()], {"sft": lambda prompt: ""})
    of = report.json["tasks"]["choice"]["positions"]["models"]["sft"]
    assert of["metrics"]["consistency"]["value"] is None
    assert of["by_place"] == {"A": 0.0, "B": 0.0, "C": 0.0}
    assert read(report.html).row("positions-choice", "SFT")["Same option"].startswith("–")


def test_answers_that_cannot_be_read_and_errors_name_no_option() -> None:
    one = animals()
    answers = {
        "q1": {"text": "<answer>B</answer>"},
        "rotation 1\nq1": {"text": "<answer>D</answer>"},
        "rotation 2\nq1": {"error": "too long"},
    }
    assert rotated_answers([one], answers, strict=True) == {"q1": ["B", None, None]}


def test_metrics_by_hand() -> None:
    golds = ["A", "B"]
    said = [("A", "A", "A"), ("B", None, "C")]
    values = {name: ratio.value for name, ratio in rotation_metrics(golds, said).items()}
    assert values == {
        "accuracy": pytest.approx((1 + 1 / 3) / 2),
        "circular": 0.5,
        "consistency": 1.0,
        "valid": pytest.approx((1 + 2 / 3) / 2),
    }
    # A, B, C of the first record; B and then C two places further on, which is B again.
    assert by_place(said) == {"A": 0.2, "B": 0.6, "C": 0.2}
