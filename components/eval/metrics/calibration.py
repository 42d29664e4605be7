"""Whether a judge's scores say how sure it is: right answers by the gap between its two scores."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GAPS = ((0, 0), (1, 2), (3, 4), (5, 6), (7, 10))
"""Bins of ``|score_A - score_B|``, both ends included."""


def by_gap(gaps: Sequence[int], right: Sequence[bool]) -> list[dict[str, float | int | None]]:
    """Return, for each bin of gaps, ``low``, ``high``, ``count`` and ``accuracy`` (None if empty).

    A calibrated judge is right more often the wider the gap.
    """
    found = np.asarray(gaps, dtype=np.int64)
    hits = np.asarray(right, dtype=np.float64)
    bins: list[dict[str, float | int | None]] = []
    for low, high in GAPS:
        inside: NDArray[np.bool_] = (found >= low) & (found <= high)
        count = int(inside.sum())
        accuracy = float(hits[inside].mean()) if count else None
        bins.append({"low": low, "high": high, "count": count, "accuracy": accuracy})
    return bins


def auroc(gaps: Sequence[float], right: Sequence[bool]) -> float | None:
    """Return the chance that a right answer has a wider gap than a wrong one; .5 says nothing.

    It is the area under the ROC curve of the gap as a sign of being right, in its form of ranks
    (Mann and Whitney, 1947); equal gaps count half. None where all answers are right, or none is.
    """
    hits = np.asarray(right, dtype=bool)
    positive, negative = int(hits.sum()), int((~hits).sum())
    if not positive or not negative:
        return None
    _, place, counts = np.unique(np.asarray(gaps), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[hits].sum() - positive * (positive + 1) / 2) / (positive * negative))
