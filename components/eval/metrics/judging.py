"""Metrics of a pairwise judge that is asked in both orders of the two candidates.

A judge that always names the candidate shown first looks right on half of any balanced set, and
one that always says A solves a set whose labels are all A. So every pair is judged twice, and the
same metrics are computed for constant baselines, which never look at the medium.
"""

from collections.abc import Sequence

from components.eval.metrics.bootstrap import Ratio, mean_of, share_of
from omnistage.records.verdict import Better

Pair = tuple[Better | None, Better | None]
"""The winner when shown in the original order and in the other, both under the names of the
original order (``swap_better`` maps back); None without a valid verdict."""


def judge_metrics(golds: Sequence[Better], judged: Sequence[Pair]) -> dict[str, Ratio]:
    """Return the metrics by name, each 0 to 1.

    ``accuracy``
        Share of judgements whose winner is the gold one, over pairs and both orders; an invalid
        one is wrong. A pair counts 0, .5 or 1.
    ``consistency``
        Share of pairs with the same winner in both orders, among those valid in both.
    ``ties``
        Share of ``equal`` among the valid judgements.
    ``first_shown``
        Share of judgements for the candidate shown first, among the valid ones that name a
        winner; .5 is unbiased.
    """
    valid = [sum(v is not None for v in pair) for pair in judged]
    ties = [pair.count("equal") for pair in judged]
    return {
        "accuracy": mean_of(
            [pair.count(gold) / 2 for gold, pair in zip(golds, judged, strict=True)]
        ),
        "consistency": share_of(
            [a is not None and a == b for a, b in judged], [None not in pair for pair in judged]
        ),
        "ties": share_of(ties, valid),
        "first_shown": share_of(
            [(a == "A") + (b == "B") for a, b in judged],
            [v - t for v, t in zip(valid, ties, strict=True)],
        ),
    }
