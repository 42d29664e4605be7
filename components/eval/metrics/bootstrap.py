"""Percentile bootstrap intervals over records (Efron and Tibshirani, 1993, chapter 13).

Values of one record (its two orders, its completions, its runs under several seeds) are drawn
together, as a cluster: they are not independent, and drawing them apart would make the interval
too narrow.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
LEVEL = 0.95
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its percentile interval.

    Attributes:
        mean: Mean of the values as they are.
        low: Lower end.
        high: Upper end.
        level: Confidence level of the interval, such as .95.
        records: Number of records (clusters) it rests on.
    """

    mean: float
    low: float
    high: float
    level: float
    records: int


def bootstrap_mean(
    values: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return the mean of values with its interval; the same seed gives the same interval.

    Args:
        values: Finite numbers, one-dimensional.
        clusters: The record each value belongs to; by default each value is its own record.
        resamples: How often records are drawn, as many as there are, with replacement.
        level: Confidence level, between 0 and 1.
        seed: Seed of the draws.

    Raises:
        ValueError: If there is no value, one is not finite, or the lengths differ.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0 or not np.isfinite(numbers).all():
        raise ValueError("a bootstrap needs a one-dimensional list of finite values, at least one")
    if not 0 < level < 1:
        raise ValueError(f"the confidence level must lie between 0 and 1, not be {level}")
    sums, sizes = _clustered(numbers, clusters)
    means = _resampled_means(sums, sizes, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(numbers.mean()), float(low), float(high), level, len(sums))


def _clustered(
    values: NDArray[np.float64], clusters: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum and the number of values of each record, in order of first appearance."""
    if clusters is None:
        return values, np.ones_like(values)
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values but {len(clusters)} cluster names")
    places: dict[Hashable, int] = {}
    codes = [places.setdefault(name, len(places)) for name in clusters]
    sums = np.bincount(codes, weights=values).astype(np.float64)
    return sums, np.bincount(codes).astype(np.float64)


def _resampled_means(
    sums: NDArray[np.float64],
    sizes: NDArray[np.float64],
    resamples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    n = len(sums)
    block = max(1, _DRAWS_AT_ONCE // n)  # bounds memory: one index for each draw in a block
    means: list[NDArray[np.float64]] = []
    for start in range(0, resamples, block):
        drawn = rng.integers(0, n, size=(min(block, resamples - start), n))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def paired_difference(
    treatment: ArrayLike,
    control: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return the mean of ``treatment - control`` on the same records, with its interval.

    Args:
        treatment: Values of one model, one for each record.
        control: Values of the other, in the same order.
        clusters: As in ``bootstrap_mean``.
        resamples: As in ``bootstrap_mean``.
        level: As in ``bootstrap_mean``.
        seed: As in ``bootstrap_mean``.

    Raises:
        ValueError: If the two have different lengths, or as in ``bootstrap_mean``.
    """
    first = np.asarray(treatment, dtype=np.float64)
    second = np.asarray(control, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired values need one shape, not {first.shape} and {second.shape}")
    return bootstrap_mean(first - second, clusters, resamples=resamples, level=level, seed=seed)
