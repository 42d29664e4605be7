"""Ratios over records and their percentile bootstrap intervals.

Efron and Tibshirani, 1993, chapter 13. Records about one medium are drawn together, as a cluster:
they are not independent, and drawing them apart would make the interval too narrow.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
LEVEL = 0.95
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric as sums over records: what was counted over what could have been.

    Attributes:
        counted: One row a record; one column for each ratio that is averaged, mostly a single one.
        total: The denominators, in the same shape.
    """

    counted: NDArray[np.float64]
    total: NDArray[np.float64]

    @property
    def value(self) -> float:
        """Mean over the columns of ``sum(counted) / sum(total)``; NaN where nothing counts."""
        return float(_shares(self.counted.sum(axis=0), self.total.sum(axis=0)))


def mean_of(values: ArrayLike) -> Ratio:
    """Return the mean of one value a record."""
    numbers = np.asarray(values, dtype=np.float64)
    return share_of(numbers, np.ones_like(numbers))


def share_of(counted: ArrayLike, total: ArrayLike) -> Ratio:
    """Return the ratio of two sums over records, such as ties over valid verdicts."""
    columns = [np.asarray(part, dtype=np.float64).reshape(-1, 1) for part in (counted, total)]
    return Ratio(columns[0], columns[1])


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its percentile interval.

    Attributes:
        mean: The value over the records as they are.
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


def bootstrap(
    ratio: Ratio,
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return a metric with its interval; the same seed gives the same interval.

    Equal clusters are counted and their numbers drawn from a multinomial distribution, which is
    the same as drawing them one by one: metrics of few distinct values cost next to nothing.

    Args:
        ratio: The metric; NaN in, NaN out.
        clusters: The cluster of each record, such as its medium; by default each is its own.
        resamples: How often clusters are drawn, as many as there are, with replacement.
        level: Confidence level, between 0 and 1.
        seed: Seed of the draws.

    Raises:
        ValueError: If there is no record, a value is not finite, or the lengths differ.
    """
    rows = np.hstack([ratio.counted, ratio.total])
    if not rows.size or not np.isfinite(rows).all():
        raise ValueError("a bootstrap needs a one-dimensional list of finite values, at least one")
    if not 0 < level < 1:
        raise ValueError(f"the confidence level must lie between 0 and 1, not be {level}")
    rows = _clustered(rows, clusters)
    distinct, counts = _distinct(rows)
    rng = np.random.default_rng(seed)
    width = ratio.counted.shape[1]
    block = max(1, _DRAWS_AT_ONCE // len(distinct))  # bounds memory
    values = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        sums = rng.multinomial(len(rows), counts / len(rows), size=size) @ distinct
        values.append(_shares(sums[:, :width], sums[:, width:]))
    drawn = np.concatenate(values)
    known = drawn[~np.isnan(drawn)]
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(known, tails) if known.size else (np.nan, np.nan)
    return Interval(ratio.value, float(low), float(high), level, len(rows))


def bootstrap_mean(
    values: ArrayLike, clusters: Sequence[Hashable] | None = None, **options: float
) -> Interval:
    """Return the mean of one finite value a record with its interval; see :func:`bootstrap`.

    Raises:
        ValueError: If the values are not a list of finite numbers.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise ValueError("a bootstrap needs a one-dimensional list of finite values, at least one")
    return bootstrap(mean_of(numbers), clusters, **options)  # pyright: ignore[reportArgumentType]


def _shares(counted: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the last axis of the ratios whose total is not 0; NaN without any."""
    there = total > 0
    ratios = np.divide(counted, total, out=np.zeros_like(counted), where=there)
    found = there.sum(axis=-1)
    empty = np.full(found.shape, np.nan)
    return np.divide(ratios.sum(axis=-1), found, out=empty, where=found > 0)


def _distinct(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the distinct rows and how often each occurs.

    Rows of two columns are sorted as complex numbers, which is several times as fast as by rows.
    """
    if rows.shape[1] != 2:
        return np.unique(rows, axis=0, return_counts=True)
    pairs = np.ascontiguousarray(rows).view(np.complex128)[:, 0]
    found, counts = np.unique(pairs, return_counts=True)
    return found.view(np.float64).reshape(-1, 2), counts


def _clustered(
    rows: NDArray[np.float64], clusters: Sequence[Hashable] | None
) -> NDArray[np.float64]:
    """Return the sums of each cluster's rows, in order of first appearance."""
    if clusters is None:
        return rows
    if len(clusters) != len(rows):
        raise ValueError(f"{len(rows)} values but {len(clusters)} cluster names")
    if len(set(clusters)) == len(clusters):
        return rows
    places: dict[Hashable, int] = {}
    codes = [places.setdefault(name, len(places)) for name in clusters]
    sums = np.zeros((len(places), rows.shape[1]))
    np.add.at(sums, codes, rows)
    return sums
