"""Intervals and comparisons in the layout of ``report.json``."""

import math
from typing import Any

from components.eval.metrics.bootstrap import Interval
from components.eval.metrics.comparison import Comparison

Figures = dict[str, Any]


def bounds(interval: Interval) -> Figures:
    """Return ``value``, ``low`` and ``high``; None for what is not a number."""
    values = {"value": interval.mean, "low": interval.low, "high": interval.high}
    return {name: v if math.isfinite(v) else None for name, v in values.items()}


def difference(compared: Comparison) -> Figures:
    """Return a paired difference with its interval, test and the records that moved."""
    return {
        **bounds(compared.difference),
        "p_value": compared.p_value,
        "test": compared.test,
        "gained": compared.gained,
        "lost": compared.lost,
    }
