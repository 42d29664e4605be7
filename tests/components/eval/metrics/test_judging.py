"""Metrics of a judge asked in both orders; values are worked out by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.eval.metrics.judging import Pair, judge_metrics
from components.eval.records import TestRecord
from components.eval.tasks import TASKS
from components.eval.tasks.task import Said
from omnistage.records.verdict import Better
from tests.components.eval.report_kit import record

GOLDS: list[Better] = ["A", "A", "B", "B", "equal"]
JUDGED: list[Pair] = [
    ("A", "A"),  # right in both orders
    ("A", "B"),  # names the first shown: right once
    ("B", None),  # right, then invalid
    ("A", "equal"),  # wrong twice
    ("equal", "equal"),  # a tie found in both
]


def test_every_share_counts_judgements_or_pairs():
    metrics = judge_metrics(GOLDS, JUDGED)

    assert metrics["accuracy"].counted[:, 0].tolist() == [1.0, 0.5, 0.5, 0.0, 1.0]
    assert metrics["accuracy"].value == pytest.approx(6 / 10)
    assert metrics["ties"].value == pytest.approx(3 / 9)
    assert metrics["consistency"].value == pytest.approx(2 / 4)
    # Shown first: A of 1, 2 and 4 in the original order, B of 2 in the other; 6 name a winner.
    assert metrics["first_shown"].value == pytest.approx(4 / 6)


def test_what_cannot_be_counted_is_not_a_number():
    nothing_valid = judge_metrics(["A"], [(None, None)])

    assert nothing_valid["accuracy"].value == 0.0
    assert math.isnan(nothing_valid["consistency"].value)
    assert math.isnan(nothing_valid["ties"].value)


def pairs() -> list[TestRecord]:
    texts = [("long text", "a"), ("a", "long text"), ("same", "size"), ("a", "long"), ("ab", "cd")]
    golds: list[Better] = ["A", "A", "A", "B", "equal"]
    return [record(str(i), gold, asked=("Which?", *texts[i])) for i, gold in enumerate(golds)]


def test_constant_baselines():
    task, records = TASKS["judge"], pairs()
    golds = [r.gold for r in records]
    assert task.baselines is not None
    said = {**task.constants(golds), **task.baselines([r.row for r in records])}
    found: dict[str, list[Said]] = {name: list(each) for name, each in said.items()}
    metrics = {name: task.measure(golds, each) for name, each in found.items()}

    assert {name: m["accuracy"].value for name, m in metrics.items()} == {
        "always A": pytest.approx(3 / 5),
        "always B": pytest.approx(1 / 5),
        "always equal": pytest.approx(1 / 5),
        "always first shown": pytest.approx(4 / 10),
        "majority label": pytest.approx(3 / 5),
        "longer answer": pytest.approx(3 / 5),
    }
    assert metrics["always first shown"]["consistency"].value == 0.0
    assert metrics["always first shown"]["first_shown"].value == 1.0
    assert metrics["longer answer"]["consistency"].value == 1.0


better = st.sampled_from(["A", "B", "equal"])
judged = st.tuples(better, better | st.none(), better | st.none())


@settings(max_examples=60, deadline=None)
@given(st.lists(judged, min_size=1, max_size=8))
def test_shares_stay_in_range(rows: list[tuple[Better, Better | None, Better | None]]):
    metrics = judge_metrics([gold for gold, *_ in rows], [(a, b) for _, a, b in rows])

    assert all(math.isnan(m.value) or 0 <= m.value <= 1 for m in metrics.values())
