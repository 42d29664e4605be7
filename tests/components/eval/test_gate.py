"""The gate: a requirement that is not met ends the step with the numbers."""

import pytest
from pydantic import ValidationError

from components.eval.config import EvalSettings
from components.eval.gate import METRICS, check_gate
from components.eval.report.page import build_report
from components.eval.tasks import TASKS
from omnistage.errors import InputError
from tests.components.eval.report_kit import four_pairs

REPORT = build_report(four_pairs()).json
"""Accuracy: base 0, SFT .5, GRPO .875, and .5 for the best constant."""


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("judge.accuracy", ">= sft + 0.375"),
        ("judge.accuracy", "> constant"),
        ("judge.accuracy", ">= 0.875"),
        ("judge.consistency", ">= .75"),
        ("judge.accuracy", ">base"),
    ],
)
def test_what_is_reached_passes(name: str, rule: str) -> None:
    check_gate(REPORT, {name: rule}, "here")


@pytest.mark.parametrize(
    ("name", "rule", "said"),
    [
        ("judge.accuracy", ">= sft + 0.4", r"of grpo is 0.8750, needs >= sft \+ 0.4 \(0.9000\)"),
        ("judge.accuracy", "> 0.875", r"of grpo is 0.8750, needs > 0.875 \(0.8750\)"),
        ("math.accuracy", ">= 0.1", "no test record is of task math"),
    ],
)
def test_what_is_not_reached_is_told_with_the_numbers(name: str, rule: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_gate(REPORT, {name: rule}, "out/report.html")


def test_all_that_is_not_reached_is_told_at_once_with_the_reports_place() -> None:
    rules = {"judge.accuracy": "> 0.9", "judge.ties": "> 0.5"}
    said = r"^check.require is not met: .*0.9.*; judge.ties .*; the report is in out/report.html"
    with pytest.raises(InputError, match=said):
        check_gate(REPORT, rules, "out/report.html", "check")


@pytest.mark.parametrize("rule", ["sft", ">= SFT", "<= 1", ">= sft - 1", ""])
def test_a_rule_that_cannot_be_read_is_refused_where_the_recipe_is_read(rule: str) -> None:
    with pytest.raises(ValidationError, match="is not a requirement such as"):
        EvalSettings(require={"judge.accuracy": rule})
    with pytest.raises(ValidationError, match="is not a requirement such as"):
        EvalSettings(require={"poetry.accuracy": ">= 1"})


@pytest.mark.parametrize("metric", ["accurracy", "war", "Accuracy"])
def test_a_metric_that_the_task_does_not_have_is_refused_before_anything_runs(metric: str) -> None:
    with pytest.raises(ValidationError, match=f"no metric '{metric}'; it has accuracy, consist"):
        EvalSettings(require={f"judge.{metric}": ">= 0.7"})


def test_the_metrics_are_those_that_the_tasks_measure() -> None:
    said = {"rec": "[1.0, 2.0, 3.0, 4.0]", "numeric": "1", "regression": "1", "math": "1"}
    measured = {
        name: tuple(task.measure([gold], [(gold,) * (2 if name == "judge" else 1)]))
        for name, task in TASKS.items()
        for gold in [said.get(name, "A")]
    }
    by_judge = {**measured, "free_form": (*measured["free_form"], "judged")}
    assert by_judge == METRICS
