"""Two models on the same records: interval of the difference, test, correction for many tests."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from components.eval.metrics.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_mean

PERMUTATIONS = 10_000
_EXACT_UP_TO = 500


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one model's scores say against another's.

    Attributes:
        difference: Mean of ``treatment - control`` with its interval.
        p_value: Two-sided, that the two are equally good.
        test: ``mcnemar`` for right or wrong on independent records, else ``permutation``.
        gained: Records with a higher score.
        lost: Records with a lower score.
    """

    difference: Interval
    p_value: float
    test: Literal["mcnemar", "permutation"]
    gained: int
    lost: int


def compare(
    treatment: ArrayLike,
    control: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same records.

    Args:
        treatment: Values of one model, one for each record.
        control: Values of the other, in the same order.
        clusters: As in :func:`~components.eval.metrics.bootstrap.bootstrap`.
        resamples: Likewise.
        level: Likewise.
        seed: Of the resampling and of the permutations.

    Raises:
        ValueError: If the two have different lengths, or as in ``bootstrap``.
    """
    new = np.asarray(treatment, dtype=np.float64)
    old = np.asarray(control, dtype=np.float64)
    if new.shape != old.shape:
        raise ValueError(f"paired values need one shape, not {new.shape} and {old.shape}")
    gaps = new - old
    interval = bootstrap_mean(gaps, clusters, resamples=resamples, level=level, seed=seed)
    gained, lost = int((gaps > 0).sum()), int((gaps < 0).sum())
    binary = bool(np.isin(new, (0, 1)).all() and np.isin(old, (0, 1)).all())
    if binary and interval.records == len(gaps):
        return Comparison(interval, mcnemar(gained, lost), "mcnemar", gained, lost)
    p_value = permutation_test(_cluster_sums(gaps, clusters), seed)
    return Comparison(interval, p_value, "permutation", gained, lost)


def mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided p value of McNemar's exact test (1947, in its binomial form).

    Args:
        gained: Records that only the new model has right.
        lost: Records that only the old one has right.
    """
    n = gained + lost
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        for k in range(min(gained, lost) + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def permutation_test(gaps: NDArray[np.float64], seed: int = 0) -> float:
    """Return the two-sided p value of the paired sign-flip test (Fisher's randomization test).

    Under the null each cluster's difference is as likely to have the other sign. The p value is
    ``(1 + permutations as far from 0) / (1 + permutations)`` over ``PERMUTATIONS`` seeded ones; of
    more than ``_EXACT_UP_TO`` clusters the sum is as good as normal, and its tail is computed.

    Args:
        gaps: Sum of differences of each independent cluster.
        seed: Of the permutations.
    """
    moved = gaps[gaps != 0]
    if len(moved) > _EXACT_UP_TO:
        return math.erfc(abs(moved.sum()) / math.sqrt(2 * float(np.square(moved).sum())))
    sizes, counts = np.unique(np.abs(moved), return_counts=True)
    signs = 2 * np.random.default_rng(seed).binomial(counts, 0.5, (PERMUTATIONS, len(counts)))
    sums = np.abs((signs - counts) @ sizes)
    far = int((sums >= abs(gaps.sum()) - 1e-9).sum())
    return (1 + far) / (1 + PERMUTATIONS)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm, 1979), in the same order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


def _cluster_sums(
    gaps: NDArray[np.float64], clusters: Sequence[Hashable] | None
) -> NDArray[np.float64]:
    if clusters is None:
        return gaps
    sums: dict[Hashable, float] = {}
    for name, gap in zip(clusters, gaps, strict=True):
        sums[name] = sums.get(name, 0.0) + float(gap)
    return np.array(list(sums.values()))
