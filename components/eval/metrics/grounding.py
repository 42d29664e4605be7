"""Referring-expression comprehension: boxes against gold boxes."""

from collections.abc import Sequence

from components.eval.metrics.bootstrap import Ratio, mean_of
from omnistage.rewards.grounding import Box, iou


def iou_accuracy(
    golds: Sequence[Box], predictions: Sequence[Box | None], threshold: float = 0.5
) -> Ratio:
    """Return the share of boxes with an IoU above the threshold, 0 to 1; None is a miss.

    RefCOCO's metric, as OmniRL reports it.

    Raises:
        ValueError: If there is no box or the lengths differ.
    """
    return mean_of([value > threshold for value in _ious(golds, predictions)])


def mean_iou(golds: Sequence[Box], predictions: Sequence[Box | None]) -> Ratio:
    """Return the mean IoU, 0 to 1; None counts as 0.

    Raises:
        ValueError: If there is no box or the lengths differ.
    """
    return mean_of(_ious(golds, predictions))


def _ious(golds: Sequence[Box], predictions: Sequence[Box | None]) -> list[float]:
    if not golds or len(golds) != len(predictions):
        raise ValueError(f"{len(golds)} gold boxes against {len(predictions)} predictions")
    return [0.0 if p is None else iou(g, p) for g, p in zip(golds, predictions, strict=True)]
