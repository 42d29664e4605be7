"""Best-of-N: what the judge is asked round by round, and whose samples it picks."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from components.eval.config import EvalSettings
from components.eval.grading import Graded, grade
from components.eval.records import TestRecord, as_test_record
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import build_report
from components.eval.tasks import TASKS
from components.eval.variants.best_of_n import best_of
from omnistage.records.pairs import candidates
from tests.components.eval.record_kit import pair, question
from tests.components.eval.report_kit import read

Prompt = dict[str, Any]


def record(number: int, gold: str) -> TestRecord:
    asked = [{"role": "user", "content": f"<image>\nWhat is shown in {number}?"}]
    row = question("choice", gold, number, messages=asked, images=[f"m{number}.png"])
    return as_test_record(row, TASKS["choice"])


def sampled(records: list[TestRecord], said: dict[str, list[str]]) -> list[list[Graded]]:
    """The samples of each record, as letters."""
    return [
        grade(records, {i: {"text": f"<answer>{s[n]}</answer>"} for i, s in said.items()})
        for n in range(len(next(iter(said.values()))))
    ]


class Judge:
    """Prefers the answer with the right letter; keeps what it was asked."""

    def __init__(self, golds: dict[str, str]) -> None:
        self.golds, self.rounds = golds, list[list[Prompt]]()

    def __call__(self, prompts: list[Prompt]) -> Mapping[str, Mapping[str, Any]]:
        self.rounds.append(prompts)
        return {p["id"]: {"text": self.verdict(p)} for p in prompts}

    def verdict(self, prompt: Prompt) -> str:
        both = candidates(prompt["messages"])
        assert both
        gold = f">{self.golds[prompt['id'].split(chr(10))[1]]}<"
        a, b = (9 if gold in text else 1 for text in both)
        better = "A" if a > b else "B" if b > a else "equal"
        return json.dumps({"score_A": a, "score_B": b, "better": better})


def test_all_records_meet_their_next_pair_in_one_round() -> None:
    """Given 3 samples of two records; in the second the first two are one text."""
    records = [record(1, "A"), record(2, "B")]
    samples = sampled(records, {"q1": ["C", "A", "D"], "q2": ["A", "A", "B"]})
    judge = Judge({"q1": "A", "q2": "B"})
    picked = best_of(records, samples, judge, strict=False)
    assert [g.said for g in picked] == [("A",), ("B",)]
    ids = [[p["id"] for p in asked] for asked in judge.rounds]
    assert ids == [["best 1\nq1", "best 1\nq2"], ["best 2\nq1"]]
    first = judge.rounds[0][0]
    assert first["images"] == ["m1.png"]
    assert "Question: <image>\nWhat is shown in 1?" in first["messages"][1]["content"]
    # The champion is A, the challenger B.
    assert candidates(judge.rounds[1][0]["messages"]) == (
        "<answer>A</answer>",
        "<answer>D</answer>",
    )


def test_a_sample_cannot_bring_in_a_medium() -> None:
    records = [record(1, "A")]
    samples = [grade(records, {"q1": {"text": text}}) for text in ("<image>", "<answer>A</answer>")]
    judge = Judge({"q1": "A"})
    best_of(records, samples, judge, strict=False)
    asked = judge.rounds[0][0]["messages"][1]["content"]
    assert asked.count("<image>") == 1


@pytest.mark.parametrize("reply", [{"error": "too long"}, {"text": "A!"}])
def test_without_a_verdict_the_champion_stays(reply: dict[str, str]) -> None:
    records = [record(1, "A")]
    samples = sampled(records, {"q1": ["C", "A"]})
    (picked,) = best_of(
        records, samples, lambda prompts: {p["id"]: reply for p in prompts}, strict=False
    )
    assert picked.said == ("C",)


def test_pairs_to_judge_and_records_with_an_error_are_left_out() -> None:
    broken = record(2, "")
    records = [as_test_record(pair(1, "image"), TASKS["judge"]), broken]
    assert broken.error
    samples = [[Graded(r.id, (), 0.0) for r in records]] * 2
    assert best_of(records, samples, lambda prompts: {}, strict=False) == []


def test_the_pick_stands_beside_majority_vote_and_random_pick() -> None:
    """Given 3 samples of two records: in both one is right, which the judge finds."""
    records = [record(1, "A"), record(2, "B")]
    samples = sampled(records, {"q1": ["C", "A", "C"], "q2": ["A", "D", "B"]})
    picked = best_of(records, samples, Judge({"q1": "A", "q2": "B"}), strict=False)
    greedy = ModelResult("sft", samples[0])
    data = ReportData(
        "r",
        [greedy],
        records,
        {},
        samples={"sft": samples},
        picked={"sft": picked},
        picked_by="grpo",
        bootstrap_samples=100,
    )
    report = build_report(data)
    of = report.json["tasks"]["choice"]["sampling"]["models"]["sft"]
    values = {name: of[name]["value"] for name in ("picked", "majority", "mean")}
    assert values == {"picked": 1.0, "majority": 0.0, "mean": pytest.approx(1 / 3)}
    assert of["pass"]["3"]["value"] == 1.0  # what a perfect judge reaches
    row = read(report.html).row("sampling-choice", "SFT")
    assert row["Picked by GRPO"].startswith("100.0%")
    assert row["Random pick"].startswith("33.3%")
    assert "picked by GRPO 100.0%" in report.markdown


def test_a_judge_needs_samples_and_to_be_one_of_the_models() -> None:
    with pytest.raises(ValidationError, match="needs samples of 2 or more"):
        EvalSettings(best_of_n_judge="sft")
    with pytest.raises(ValidationError, match="'rl' is not one of models"):
        EvalSettings(samples=2, best_of_n_judge="rl", models=["base", "sft"])
    assert EvalSettings(samples=2, best_of_n_judge="sft", models=["sft"]).best_of_n_judge == "sft"
