"""Accuracy over classes, and over sets of choices."""

from collections import Counter
from collections.abc import Sequence

from omnistage.rewards.answers import choices, set_f1


def accuracy(golds: Sequence[str], predictions: Sequence[str | None]) -> float:
    """Return the share of predictions equal to the gold label, 0 to 1; None is wrong.

    Raises:
        ValueError: If there is no label or the lengths differ.
    """
    _check(golds, predictions)
    return sum(g == p for g, p in zip(golds, predictions, strict=True)) / len(golds)


def recalls(golds: Sequence[str], predictions: Sequence[str | None]) -> dict[str, float]:
    """Return the recall, 0 to 1, of each class that occurs in the gold labels.

    Raises:
        ValueError: If there is no label or the lengths differ.
    """
    _check(golds, predictions)
    support = Counter(golds)
    right = Counter(g for g, p in zip(golds, predictions, strict=True) if g == p)
    return {label: right[label] / support[label] for label in sorted(support)}


def weighted_average_recall(golds: Sequence[str], predictions: Sequence[str | None]) -> float:
    """Return WAR, 0 to 100: recall averaged by support, which is accuracy times 100 (R1-Omni)."""
    return 100 * accuracy(golds, predictions)


def unweighted_average_recall(golds: Sequence[str], predictions: Sequence[str | None]) -> float:
    """Return UAR, 0 to 100: the plain mean of the recalls of the gold classes (R1-Omni)."""
    values = recalls(golds, predictions).values()
    return 100 * sum(values) / len(values)


def confusion(
    golds: Sequence[str], predictions: Sequence[str | None]
) -> dict[tuple[str, str | None], int]:
    """Return how often each pair of gold label and prediction occurs."""
    _check(golds, predictions)
    return dict(Counter(zip(golds, predictions, strict=True)))


def multi_choice_f1(golds: Sequence[str], predictions: Sequence[str | None]) -> float:
    """Return the mean over questions of the F1 of the sets of choices, 0 to 1 (HumanOmniV2)."""
    _check(golds, predictions)
    pairs = zip(golds, predictions, strict=True)
    return sum(set_f1(choices(g), choices(p or "")) for g, p in pairs) / len(golds)


def _check(golds: Sequence[str], predictions: Sequence[str | None]) -> None:
    if not golds or len(golds) != len(predictions):
        raise ValueError(f"{len(golds)} gold labels against {len(predictions)} predictions")
