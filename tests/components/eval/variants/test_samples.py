"""Several samples of a record: which are asked, pass@k and the majority's answer."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.eval.generate import decoding_of
from components.eval.grading import grade
from components.eval.metrics.sampling import agreement, majority_vote, pass_at_k
from components.eval.records import TestRecord, as_test_record, prompts_of
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import build_report
from components.eval.tasks import TASKS
from components.eval.variants.samples import sampled_answers, sampled_prompts
from tests.components.eval.record_kit import pair, question, verdict
from tests.components.eval.report_kit import read


def test_pass_at_k_by_hand() -> None:
    """Given 4 samples: of the 6 ways to draw 2, 3 draw the one right sample."""
    assert [pass_at_k(4, 1, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    assert pass_at_k(5, 2, 2) == pytest.approx(1 - 3 / 10)
    assert pass_at_k(3, 0, 3) == 0.0
    with pytest.raises(ValueError, match="pass@3 of 1 right among 2"):
        pass_at_k(2, 1, 3)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_share_of_all_draws_with_a_right_one(
    right: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(right)))
    draws = list(combinations(right, k))
    share = sum(any(draw) for draw in draws) / len(draws)
    assert pass_at_k(len(right), sum(right), k) == pytest.approx(share)


def test_majority_vote_takes_the_earliest_among_equals() -> None:
    assert majority_vote(["B", "A", "A", "B", None]) == "B"
    assert majority_vote(["B", "A", "A"]) == "A"
    assert majority_vote([None]) is None
    assert agreement(["B", "A", "A", None]) == 0.5
    assert agreement([None, None]) == 0.0


def records() -> list[TestRecord]:
    rows = [question("choice", "A", n) for n in (1, 2)]
    return [as_test_record(row, TASKS["choice"]) for row in rows]


def test_every_prompt_is_asked_so_many_times_each_on_its_own() -> None:
    asked = sampled_prompts(prompts_of(records()), 3, 0.7, 0.9, 5)
    assert len({p["id"] for p in asked}) == 6
    assert [p["sampling"]["number"] for p in asked] == [1, 1, 2, 2, 3, 3]
    of_whole_vocabulary = {"temperature": 0.7, "top_p": 0.9, "top_k": 1_000_000}
    assert decoding_of(asked[:1]) == of_whole_vocabulary
    assert decoding_of(prompts_of(records())) == {"temperature": 0}


def test_the_majority_may_be_right_where_single_samples_are_not() -> None:
    """Given 4 samples of two records: A A B C, and B none D D; gold is A."""
    said = {"q1": "AABC", "q2": "B-DD"}
    answers = {
        p["id"]: {"text": f"<answer>{letter}</answer>" if letter != "-" else "?"}
        for p in sampled_prompts(prompts_of(records()), 4, 1.0, 1.0, 0)
        for letter in [said[p["id"].split("\n")[1]][p["sampling"]["number"] - 1]]
    }
    greedy = grade(records(), {"q1": {"text": "<answer>B</answer>"}, "q2": {"text": "?"}})
    samples = [grade(records(), sampled_answers(n, records(), answers)) for n in (1, 2, 3, 4)]
    data = ReportData(
        "r",
        [ModelResult("sft", greedy)],
        records(),
        {},
        samples={"sft": samples},
        bootstrap_samples=100,
    )
    report = build_report(data)
    found = report.json["tasks"]["choice"]["sampling"]
    of = found["models"]["sft"]
    assert found["samples"] == 4
    assert {k: of[k]["value"] for k in ("greedy", "mean", "majority")} == {
        "greedy": 0.0,
        "mean": 0.25,
        "majority": 0.5,
    }
    passed = {k: v["value"] for k, v in of["pass"].items()}
    assert passed == {"1": 0.25, "2": pytest.approx((1 - 1 / 6) / 2), "4": 0.5}
    assert of["agreement"] == 0.5
    row = read(report.html).row("sampling-choice", "SFT")
    assert row["Majority"].startswith("50.0%")
    assert row["pass@4"].startswith("50.0%")
    assert "SFT, 4 samples: majority 50.0%" in report.markdown


def test_a_pair_is_sampled_in_both_orders_and_right_in_both() -> None:
    one = as_test_record(pair(1, "image", "A"), TASKS["judge"])
    texts = {
        "sample 1\nr1": verdict(9, 1, "A"),
        "sample 1\nr1#2": verdict(1, 9, "B"),
        "sample 2\nr1": verdict(9, 1, "A"),
        "sample 2\nr1#2": verdict(9, 1, "A"),
    }
    answers = {i: {"text": text} for i, text in texts.items()}
    samples = [grade([one], sampled_answers(n, [one], answers)) for n in (1, 2)]
    assert [g.score for (g,) in samples] == [1.0, 0.5]
    result = ModelResult("sft", samples[1])
    data = ReportData("r", [result], [one], {}, samples={"sft": samples}, bootstrap_samples=100)
    of = build_report(data).json["tasks"]["judge"]["sampling"]["models"]["sft"]
    assert of["pass"]["1"]["value"] == 0.5
    assert of["majority"]["value"] == 1.0  # of the second order's tie the earlier one counts
    assert of["agreement"] == 0.75
