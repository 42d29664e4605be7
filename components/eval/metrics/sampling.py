"""Metrics of several sampled answers to one record."""

import math
from collections import Counter
from collections.abc import Sequence


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Return the chance that at least one of ``k`` samples is right, 0 to 1, without bias.

    ``1 − C(n − c, k) / C(n, k)``: of all ways to draw k of the n samples, the share that draws one
    of the c right ones (Chen et al., 2021, "Evaluating Large Language Models Trained on Code",
    equation 1).

    Args:
        samples: n, at least k.
        right: c, at most n.
        k: At least 1.

    Raises:
        ValueError: If the numbers are not so.

    Example:
        >>> pass_at_k(4, 1, 2)
        0.5
    """
    if not 0 <= right <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {right} right among {samples} samples is not defined")
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def majority_vote(answers: Sequence[str | None]) -> str | None:
    """Return the most frequent answer, the earliest among equals; None (no answer) has no vote.

    Self-consistency (Wang et al., 2022): the samples' reasoning is left out, their answers vote.
    """
    counts = Counter(answer for answer in answers if answer is not None)
    return max(counts, key=lambda answer: counts[answer]) if counts else None


def agreement(answers: Sequence[str | None]) -> float:
    """Return the share of the samples that give the majority's answer, 0 to 1."""
    winner = majority_vote(answers)
    return 0.0 if winner is None else answers.count(winner) / len(answers)
