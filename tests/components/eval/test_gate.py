"""The gate: a requirement that is not met ends the step with the numbers."""

import pytest
from pydantic import ValidationError

from components.eval.config import EvalSettings
from components.eval.gate import check_gate
from components.eval.report.page import build_report
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
        ("judge.war", ">= 0.1", "judge.war: there is no such figure of grpo"),
        ("math.accuracy", ">= 0.1", "no test record is of task math"),
    ],
)
def test_what_is_not_reached_is_told_with_the_numbers(name: str, rule: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_gate(REPORT, {name: rule}, "out/report.html")


def test_all_that_is_not_reached_is_told_at_once_with_the_reports_place() -> None:
    with pytest.raises(InputError, match=r"0.9.*; judge.ties .*; the report is in out/report.html"):
        check_gate(REPORT, {"judge.accuracy": "> 0.9", "judge.ties": "> 0.5"}, "out/report.html")


@pytest.mark.parametrize("rule", ["sft", ">= SFT", "<= 1", ">= sft - 1", ""])
def test_a_rule_that_cannot_be_read_is_refused_where_the_recipe_is_read(rule: str) -> None:
    with pytest.raises(ValidationError, match="is not a requirement such as"):
        EvalSettings(require={"judge.accuracy": rule})
    with pytest.raises(ValidationError, match="is not a requirement such as"):
        EvalSettings(require={"poetry.accuracy": ">= 1"})
