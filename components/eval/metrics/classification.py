"""Accuracy over classes, and over sets of choices."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from components.eval.metrics.bootstrap import Ratio, mean_of
from omnistage.rewards.answers import choices, set_f1

Label = str | None


def accuracy(golds: Sequence[str], predictions: Sequence[Label]) -> Ratio:
    """Return the share of predictions equal to the gold label, 0 to 1; None is wrong.

    It is R1-Omni's WAR (weighted average recall): recall averaged by support is accuracy.

    Raises:
        ValueError: If there is no label or the lengths differ.
    """
    _check(golds, predictions)
    return mean_of([g == p for g, p in zip(golds, predictions, strict=True)])


def unweighted_average_recall(golds: Sequence[str], predictions: Sequence[Label]) -> Ratio:
    """Return UAR, 0 to 1: the plain mean of the recalls of the gold classes (R1-Omni).

    Equals scikit-learn's ``recall_score(average="macro", labels=<gold labels>)``.

    Raises:
        ValueError: If there is no label or the lengths differ.
    """
    _check(golds, predictions)
    classes = np.array(sorted(set(golds)))
    total = np.array(golds)[:, None] == classes
    right = np.array([g == p for g, p in zip(golds, predictions, strict=True)])
    return Ratio((total & right[:, None]).astype(np.float64), total.astype(np.float64))


def recalls(golds: Sequence[str], predictions: Sequence[Label]) -> dict[str, float]:
    """Return the recall, 0 to 1, of each class that occurs in the gold labels, by name.

    Raises:
        ValueError: If there is no label or the lengths differ.
    """
    ratio = unweighted_average_recall(golds, predictions)
    values = ratio.counted.sum(axis=0) / ratio.total.sum(axis=0)
    return dict(zip(sorted(set(golds)), map(float, values), strict=True))


def confusion(golds: Sequence[str], predictions: Sequence[Label]) -> dict[tuple[str, Label], int]:
    """Return how often each pair of gold label and prediction occurs."""
    _check(golds, predictions)
    return dict(Counter(zip(golds, predictions, strict=True)))


def multi_choice_f1(golds: Sequence[str], predictions: Sequence[Label]) -> Ratio:
    """Return the mean over questions of the F1 of the sets of choices, 0 to 1 (HumanOmniV2)."""
    _check(golds, predictions)
    pairs = zip(golds, predictions, strict=True)
    return mean_of([set_f1(choices(g), choices(p or "")) for g, p in pairs])


def _check(golds: Sequence[str], predictions: Sequence[Label]) -> None:
    if not golds or len(golds) != len(predictions):
        raise ValueError(f"{len(golds)} gold labels against {len(predictions)} predictions")
