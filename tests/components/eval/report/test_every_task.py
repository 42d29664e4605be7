"""A report can be made of test records of any task, also where golds are no classes."""

import pytest

from components.eval.grading import grade
from components.eval.records import as_test_record
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import build_report
from components.eval.tasks import TASKS
from tests.components.eval.record_kit import question

GOLDS = {
    "choice": "A",
    "multi_choice": "A,B",
    "numeric": "3",
    "regression": "3",
    "math": "$\\frac{1}{2}$",
    "yes_no": "yes",
    "emotion": "happy",
    "rec": "[1, 2, 30, 40]",
    "free_form": "It is red.",
    "ocr": "EXIT",
}


def test_every_task_has_a_gold_here() -> None:
    assert GOLDS.keys() | {"judge"} == TASKS.keys()


@pytest.mark.parametrize("task", GOLDS)
def test_a_report_of_one_task(task: str) -> None:
    rows = [question(task, GOLDS[task], number) for number in (1, 2)]
    records = [as_test_record(row, TASKS[task]) for row in rows]
    assert [record.error for record in records] == [None, None]
    said = {records[0].id: {"text": f"<answer>{GOLDS[task]}</answer>"}, records[1].id: {"text": ""}}

    report = build_report(ReportData("r", [ModelResult("base", grade(records, said))], records, {}))

    assert report.json["tasks"][task]["records"] == 2
    assert "</html>" in report.html
