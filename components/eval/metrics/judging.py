"""Metrics of a pairwise judge that is asked in both orders of the two candidates.

A judge that always names the candidate shown first looks right on half of any balanced set, and
one that always says A solves a set whose labels are all A. So every pair is judged twice, and the
same metrics are computed for constant baselines, which never look at the medium.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from omnistage.records.verdict import BETTER, Better, better_of, swap_better


@dataclass(frozen=True, slots=True)
class GoldPair:
    """A pair to judge, in its original order.

    Attributes:
        id: Record id.
        gold: The better candidate by the annotator.
        modality: ``image``, ``audio``, ``video`` or whatever the metrics are grouped by.
        length_a: Length of candidate A's text, in characters.
        length_b: Length of candidate B's text, in characters.
    """

    id: str
    gold: Better
    modality: str
    length_a: int
    length_b: int


@dataclass(frozen=True, slots=True)
class PairJudgement:
    """What a judge said of one pair in both orders, under the names of the original order.

    Attributes:
        id: Record id.
        gold: The better candidate by the annotator.
        modality: What the metrics are grouped by.
        original: The winner when shown in the original order; None without a valid verdict.
        swapped: The winner when shown in the other order, mapped back (``swap_better``) to the
            names of the original order; None without a valid verdict.
    """

    id: str
    gold: Better
    modality: str
    original: Better | None
    swapped: Better | None


@dataclass(frozen=True, slots=True)
class JudgeSummary:
    """Shares from 0 to 1 over pairs and both orders; NaN where nothing can be counted.

    Attributes:
        pairs: Number of pairs.
        accuracy: Share of judgements whose winner is the gold one; an invalid one is wrong.
        valid: Share of judgements with a valid verdict.
        ties: Share of ``equal`` among the valid judgements.
        consistency: Share of pairs with the same winner in both orders, among those valid in both.
        first_shown: Share of judgements for the candidate shown first, among the valid ones that
            name a winner; .5 is unbiased.
    """

    pairs: int
    accuracy: float
    valid: float
    ties: float
    consistency: float
    first_shown: float


def record_accuracy(judgements: Sequence[PairJudgement]) -> NDArray[np.float64]:
    """Return each pair's accuracy over its two orders: 0, .5 or 1. The unit of the bootstrap."""
    return np.array([((j.original == j.gold) + (j.swapped == j.gold)) / 2 for j in judgements])


def summarize(judgements: Sequence[PairJudgement]) -> JudgeSummary:
    """Return the metrics over all pairs."""
    both = [j for j in judgements if j.original is not None and j.swapped is not None]
    verdicts = [v for j in judgements for v in (j.original, j.swapped) if v is not None]
    first = sum(j.original == "A" for j in judgements) + sum(j.swapped == "B" for j in judgements)
    ties = verdicts.count("equal")
    return JudgeSummary(
        pairs=len(judgements),
        accuracy=_share(float(record_accuracy(judgements).sum()), len(judgements)),
        valid=_share(len(verdicts), 2 * len(judgements)),
        ties=_share(ties, len(verdicts)),
        consistency=_share(sum(j.original == j.swapped for j in both), len(both)),
        first_shown=_share(first, len(verdicts) - ties),
    )


def _share(count: float, total: int) -> float:
    return count / total if total else float("nan")


BaselineName = Literal[
    "always A", "always B", "always equal", "always first shown", "majority label", "longer answer"
]


def baselines(pairs: Sequence[GoldPair]) -> dict[BaselineName, list[PairJudgement]]:
    """Return what each constant baseline says of every pair.

    ``always A`` and ``always B`` mean the candidate that the data set calls so, in both orders:
    what a label set leaks. ``always first shown`` writes the letter A whatever is shown: right in
    one order of every pair that has a winner, so .5 when there are no ties. ``majority label``
    names the most frequent gold label of these very pairs (the first of A, B, equal among equals).
    ``longer answer`` names the candidate with more characters, ``equal`` for the same number.
    """
    counts = Counter(pair.gold for pair in pairs)
    majority = max(BETTER, key=lambda label: counts[label])
    return {
        "always A": [_judgement(pair, "A", "A") for pair in pairs],
        "always B": [_judgement(pair, "B", "B") for pair in pairs],
        "always equal": [_judgement(pair, "equal", "equal") for pair in pairs],
        "always first shown": [_judgement(pair, "A", swap_better("A")) for pair in pairs],
        "majority label": [_judgement(pair, majority, majority) for pair in pairs],
        "longer answer": [_by_length(pair) for pair in pairs],
    }


def _judgement(pair: GoldPair, original: Better, swapped: Better) -> PairJudgement:
    return PairJudgement(pair.id, pair.gold, pair.modality, original, swapped)


def _by_length(pair: GoldPair) -> PairJudgement:
    longer = better_of(pair.length_a, pair.length_b)
    return _judgement(pair, longer, longer)
