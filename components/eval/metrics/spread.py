"""Mean and spread of a figure over repetitions that differ in their seeds."""

import math
from collections.abc import Sequence


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean, standard deviation of the sample (n − 1), least and largest value.

    Raises:
        ValueError: If there are fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("a spread needs at least two values")
    mean = math.fsum(values) / len(values)
    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return {"mean": mean, "sd": math.sqrt(variance), "low": min(values), "high": max(values)}
