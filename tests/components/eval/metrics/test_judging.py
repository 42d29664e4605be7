"""Metrics of a judge asked in both orders; values are worked out by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.eval.metrics import (
    GoldPair,
    PairJudgement,
    baselines,
    record_accuracy,
    summarize,
)
from omnistage.records.verdict import Better

JUDGEMENTS = [
    PairJudgement("1", "A", "image", "A", "A"),  # right in both orders
    PairJudgement("2", "A", "image", "A", "B"),  # names the first shown: right once
    PairJudgement("3", "B", "image", "B", None),  # right, then invalid
    PairJudgement("4", "B", "audio", "A", "equal"),  # wrong twice
    PairJudgement("5", "equal", "audio", "equal", "equal"),  # a tie found in both
]


def pairs(golds: str, lengths: list[tuple[int, int]] | None = None) -> list[GoldPair]:
    labels: dict[str, Better] = {"A": "A", "B": "B", "=": "equal"}
    sizes = lengths or [(1, 1)] * len(golds)
    return [GoldPair(str(i), labels[g], "image", *sizes[i]) for i, g in enumerate(golds)]


def test_a_records_accuracy_is_the_mean_over_its_two_orders():
    assert record_accuracy(JUDGEMENTS).tolist() == [1.0, 0.5, 0.5, 0.0, 1.0]


def test_the_summary_counts_judgements_and_pairs():
    summary = summarize(JUDGEMENTS)

    assert summary.pairs == 5
    assert summary.accuracy == pytest.approx(6 / 10)
    assert summary.valid == pytest.approx(9 / 10)
    assert summary.ties == pytest.approx(3 / 9)
    assert summary.consistency == pytest.approx(2 / 4)
    # Shown first: A of 1, 2 and 4 in the original order, B of 2 in the other; 6 name a winner.
    assert summary.first_shown == pytest.approx(4 / 6)


def test_what_cannot_be_counted_is_not_a_number():
    nothing_valid = summarize([PairJudgement("1", "A", "image", None, None)])

    assert (nothing_valid.accuracy, nothing_valid.valid) == (0.0, 0.0)
    assert math.isnan(nothing_valid.consistency)
    assert math.isnan(nothing_valid.ties)
    assert math.isnan(summarize([]).accuracy)


def test_constant_baselines():
    found = baselines(pairs("AAAB=", [(9, 1), (1, 9), (5, 5), (1, 9), (5, 5)]))
    accuracy = {name: summarize(said).accuracy for name, said in found.items()}

    assert accuracy == {
        "always A": pytest.approx(3 / 5),
        "always B": pytest.approx(1 / 5),
        "always equal": pytest.approx(1 / 5),
        "always first shown": pytest.approx(4 / 10),
        "majority label": pytest.approx(3 / 5),
        "longer answer": pytest.approx(3 / 5),
    }
    assert summarize(found["always first shown"]).consistency == 0.0
    assert summarize(found["always first shown"]).first_shown == 1.0
    assert summarize(found["longer answer"]).consistency == 1.0


better = st.sampled_from(["A", "B", "equal"])
judgements = st.lists(
    st.builds(
        PairJudgement,
        id=st.just("x"),
        gold=better,
        modality=st.sampled_from(["image", "audio"]),
        original=better | st.none(),
        swapped=better | st.none(),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(judgements)
def test_shares_stay_in_range(rows: list[PairJudgement]):
    summary = summarize(rows)

    shares = (summary.ties, summary.consistency, summary.first_shown)
    assert 0 <= summary.accuracy <= summary.valid <= 1
    assert all(math.isnan(share) or 0 <= share <= 1 for share in shares)
