"""Boxes in answers and their overlap, for referring-expression comprehension (REC)."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from omnistage.rewards.columns import column, gold_answer, tagged

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels or any common unit."""

_NUMBER = r"\s*(-?\d{1,9}(?:\.\d{1,12})?)\s*"
_BOX = re.compile(r"\[" + ",".join([_NUMBER] * 4) + r"\]|\(" + ",".join([_NUMBER] * 4) + r"\)")


def read_box(value: object) -> Box | None:
    """Return the first box of four numbers in a list or a text, or None.

    Read are a list ``[x1, y1, x2, y2]``, and a text that holds such a list in brackets, JSON such
    as ``{"bbox_2d": [...]}`` included. Its right and bottom must exceed its left and top.
    """
    if isinstance(value, str):
        match = _BOX.search(value)
        numbers: Sequence[Any] = [g for g in match.groups() if g is not None] if match else ()
    elif isinstance(value, list | tuple) and not any(isinstance(v, Mapping | list) for v in value):
        numbers = value
    else:
        return None
    if len(numbers) != 4:
        return None
    try:
        left, top, right, bottom = (float(v) for v in numbers)
    except (TypeError, ValueError, OverflowError):
        return None
    box = (left, top, right, bottom)
    return box if all(map(math.isfinite, box)) and left < right and top < bottom else None


def iou(first: Box, second: Box) -> float:
    """Return intersection over union of two boxes, 0 to 1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(first) + _area(second) - shared)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def rec_iou(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay 1 for a box that overlaps the gold box by an IoU above .5, else 0 (OmniRL, VLM-R1).

    The box is read from the ``<answer>``, the gold one from ``solution`` (list or text). Without
    a gold box: None.
    """
    solutions = column(columns, "solution", len(completions))
    return [_rec(completion, gold) for completion, gold in zip(completions, solutions, strict=True)]


def _rec(completion: str, solution: object) -> float | None:
    gold = read_box(gold_answer(solution) if isinstance(solution, str) else solution)
    if gold is None:
        return None
    box = read_box(tagged(completion, "answer"))
    return float(box is not None and iou(box, gold) > 0.5)
