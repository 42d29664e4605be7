"""Boxes in answers and their overlap, for referring-expression comprehension (REC).

**The frame.** Gold boxes are in pixels of the image itself. A model's are in another frame, by
family: pixels of the resized image that it was shown, or thousandths. :func:`in_image` converts
them, for the reward and for the evaluation.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omnistage.rewards.columns import column, gold_answer, log_parsed, tagged

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels or any common unit."""

Size = tuple[int, int]
"""Width and height."""
THRESHOLD = 0.5
"""The IoU above which a box counts as right (RefCOCO)."""

_NUMBER = r"\s*(-?\d{1,9}(?:\.\d{1,20})?)\s*"
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


def shown_size(size: Size, *, token_side: int, max_pixels: int, min_pixels: int = 3136) -> Size:
    """Return the size at which a Qwen processor shows an image to the model.

    Both sides become multiples of ``token_side``, the area at most ``max_pixels`` and at least
    ``min_pixels`` (``smart_resize`` of qwen-vl-utils and qwen-omni-utils).

    Example:
        >>> shown_size((1000, 500), token_side=28, max_pixels=262144)
        (700, 336)
    """

    def fitted(sides: Iterable[float], fit: Callable[[float], int]) -> Size:
        width, height = (max(token_side, fit(side / token_side) * token_side) for side in sides)
        return width, height

    shown, area = fitted(size, round), size[0] * size[1]
    if shown[0] * shown[1] > max_pixels:
        shrink = math.sqrt(area / max_pixels)
        return fitted((side / shrink for side in size), math.floor)
    if shown[0] * shown[1] < min_pixels:
        grow = math.sqrt(min_pixels / area)
        return fitted((side * grow for side in size), math.ceil)
    return shown


def in_image(box: Box, shown: Size, image: Size) -> Box:
    """Return a model's box in pixels of the image itself, the one frame that boxes are held in.

    Args:
        box: As the model says it.
        shown: Width and height that it speaks of: the resized image (:func:`shown_size`) for
            Qwen2.5-VL and Qwen2.5-Omni, ``(1000, 1000)`` for Qwen3-VL and Qwen3-Omni.
        image: Width and height of the image as a viewer shows it.

    Example:
        >>> in_image((100, 50, 200, 100), (700, 350), (1400, 700))
        (200.0, 100.0, 400.0, 200.0)
    """
    across, down = image[0] / shown[0], image[1] / shown[1]
    return (box[0] * across, box[1] * down, box[2] * across, box[3] * down)


THOUSANDTHS = (1000, 1000)
"""What Qwen3-VL and Qwen3-Omni call the size of every image."""


def size_columns(
    image: Path, *, thousandths: bool, token_side: int, max_pixels: int
) -> dict[str, list[int]]:
    """Return the columns ``image_size`` and ``shown_size`` of a record with boxes.

    Args:
        image: The record's image.
        thousandths: Whether the model's boxes are in thousandths of the image.
        token_side: Pixels along the side of a vision token.
        max_pixels: Bound on the pixels of a shown image.

    Raises:
        OSError: If the image cannot be read.
    """
    from PIL import Image, ImageOps  # only records with boxes need it

    with Image.open(image) as opened:
        size = ImageOps.exif_transpose(opened).size
    shown = shown_size(size, token_side=token_side, max_pixels=max_pixels)
    return {"image_size": list(size), "shown_size": list(THOUSANDTHS if thousandths else shown)}


def rec_iou(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for a box that overlaps the gold box by an IoU above .5, 0 or 1 (OmniRL's definition).

    Published (OmniRL, and VLM-R1 until 2025): the first ``[x1, y1, x2, y2]`` in the ``<answer>``
    against ``solution``, both taken as they are. VLM-R1 now pays the IoU itself: rec_iou_value.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | frames of answer and gold | one | ``image_size``, ``shown_size`` convert | they differ |
    | the overlap of boxes | in whole pixels | in the plane | boxes have fractions |
    | first or last ``<answer>`` | the first | the last | a thought may quote the tag |
    | right < left, NaN, infinity | an area below 0 | no box | it is none |
    | no gold box | an error | None | it says nothing about the completion |

    The answer is in the frame ``shown_size`` (width, height) and the gold in that of
    ``image_size``, the image's own pixels; see :func:`in_image`. Without these columns both are
    taken to be in one frame.

    Example:
        >>> answer = "<think>t</think><answer>[0, 0, 100, 100]</answer>"
        >>> rec_iou([answer], solution=[[0, 0, 200, 200]])
        [0.0]
        >>> rec_iou([answer], solution=[[0, 0, 200, 200]], image_size=[[1400, 1400]],
        ...         shown_size=[[700, 700]])
        [1.0]
    """
    values = rec_iou_value(completions, **columns)
    return [None if value is None else float(value > THRESHOLD) for value in values]


def rec_iou_value(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for a box by its IoU with the gold box, 0 to 1 (VLM-R1's present definition).

    Published (VLM-R1): the IoU, as described at rec_iou; what differs is as for rec_iou.

    Example:
        >>> rec_iou_value(["<answer>[0, 0, 1, 2]</answer>", "none"], solution=[[0, 0, 2, 2]] * 2)
        [0.5, 0.0]
    """
    size = len(completions)
    boxes = [read_box(tagged(completion, "answer")) for completion in completions]
    log_parsed(columns, "box", boxes)
    names = ("solution", "shown_size", "image_size")
    rows = zip(boxes, *(column(columns, name, size) for name in names), strict=True)
    return [_overlap(*row) for row in rows]


def _overlap(box: Box | None, solution: object, shown: object, image: object) -> float | None:
    gold = read_box(gold_answer(solution) if isinstance(solution, str) else solution)
    if gold is None:
        return None
    if box is None:
        return 0.0
    shown_as, size = _size(shown), _size(image)
    return iou(in_image(box, shown_as, size) if shown_as and size else box, gold)


def _size(value: object) -> Size | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    width, height = value
    both = all(isinstance(side, int | float) and side > 0 for side in (width, height))
    return (width, height) if both else None
