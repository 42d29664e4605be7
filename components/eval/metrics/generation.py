"""Answers in words and numbers: overlap, read text, numbers."""

import math
from collections.abc import Callable, Sequence

from components.eval.metrics.bootstrap import Ratio, mean_of
from omnistage.rewards.answers import number, relative_error, same_number, text_accuracy
from omnistage.rewards.overlap import bleu2, meteor, rouge1, words

_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))


def ocr_accuracy(golds: Sequence[str], predictions: Sequence[str | None]) -> Ratio:
    """Return the mean of ``max(0, 1 - word error rate)``, 0 to 1 (HumanOmniV2)."""
    return _mean(golds, predictions, text_accuracy)


def numeric_accuracy(golds: Sequence[str], predictions: Sequence[str | None]) -> Ratio:
    """Return the share of numbers equal to the gold one to 2 decimals, 0 to 1 (HumanOmniV2).

    Raises:
        ValueError: If a gold answer is no number, there is none, or the lengths differ.
    """
    return _mean(golds, predictions, same_number)


def mean_relative_accuracy(golds: Sequence[str], predictions: Sequence[str | None]) -> Ratio:
    """Return the mean of :func:`relative_accuracy`, 0 to 1.

    HumanOmniV2's metric for regression in evaluation (VSI-Bench's MRA).

    Raises:
        ValueError: If a gold answer is no number, there is none, or the lengths differ.
    """
    return _mean(golds, predictions, relative_accuracy)


def relative_accuracy(gold: str, predicted: str) -> float | None:
    """Return the share of thresholds t = .50, .55 … .95 with "relative error < 1 - t", 0 to 1.

    None if the gold answer is no number.
    """
    wanted, found = number(gold), number(predicted)
    if wanted is None:
        return None
    error = math.inf if found is None else relative_error(float(wanted), float(found))
    # Compared with a rounding margin: an error of exactly 1 - t is not below it.
    return sum(error < 1 - t - 1e-9 for t in _THRESHOLDS) / len(_THRESHOLDS)


def overlap(golds: Sequence[str], predictions: Sequence[str | None]) -> dict[str, Ratio]:
    """Return the means of BLEU-2, ROUGE-1 F and METEOR (exact matches), each 0 to 1.

    Definitions and sources: :mod:`omnistage.rewards.overlap`.
    """
    measures = {"bleu2": bleu2, "rouge1": rouge1, "meteor": meteor}
    return {
        name: _mean(golds, predictions, lambda g, p, m=measure: m(words(g), words(p)))
        for name, measure in measures.items()
    }


def _mean(
    golds: Sequence[str],
    predictions: Sequence[str | None],
    measure: Callable[[str, str], float | None],
) -> Ratio:
    if not golds or len(golds) != len(predictions):
        raise ValueError(f"{len(golds)} gold answers against {len(predictions)} predictions")
    values: list[float] = []
    for gold, prediction in zip(golds, predictions, strict=True):
        value = measure(gold, prediction or "")
        if value is None:
            raise ValueError(f"the gold answer {gold!r} is not a number")
        values.append(value)
    return mean_of(values)
