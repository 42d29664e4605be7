"""Boxes: read, compared in one frame, paid for."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from qwen_omni_utils.v2_5.vision_process import smart_resize

from omnistage.rewards.grounding import (
    in_image,
    iou,
    read_box,
    rec_iou,
    rec_iou_value,
    shown_size,
    size_columns,
)


def answered(text: object) -> str:
    return f"<think>so</think><answer>{text}</answer>"


@pytest.mark.parametrize(
    ("value", "box"),
    [
        ([1, 2, 3, 4], (1, 2, 3, 4)),
        ("[1, 2.5, 3, 4]", (1, 2.5, 3, 4)),
        ('{"bbox_2d": [10, 20, 30, 40], "label": "dog"}', (10, 20, 30, 40)),
        ("(1,2,3,4)", (1, 2, 3, 4)),
        ("first [1,2,3,4], then [5,6,7,8]", (1, 2, 3, 4)),
        ("[3, 2, 1, 4]", None),
        ("[1, 2, 3]", None),
        ("1, 2, 3, 4", None),
        ([1, 2, 3, math.inf], None),
        ([1, 2, 3, "x"], None),
        ([[1, 2, 3, 4]], None),
        (None, None),
    ],
)
def test_reading_a_box(value: object, box: object):
    assert read_box(value) == box


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 0, 3, 2), 2 / 6),
        ((0, 0, 2, 2), (0, 0, 1, 2), 0.5),
        ((0, 0, 1, 1), (1, 0, 2, 1), 0.0),
    ],
)
def test_iou(first: tuple, second: tuple, value: float):
    assert iou(first, second) == pytest.approx(value)
    assert iou(second, first) == pytest.approx(value)


def test_rec_pays_for_more_than_half_only():
    texts = [answered("[0, 0, 2, 2]"), answered("[0,0,1.1,2]"), answered("[0,0,1,2]"), "[0,0,2,2]"]

    assert rec_iou(texts, solution=["[0, 0, 2, 2]"] * 4) == [1.0, 1.0, 0.0, 0.0]
    assert rec_iou(texts[:3], solution=[[0, 0, 2, 2], answered("[0,0,2,2]"), "?"]) == [1, 1, None]


def test_the_iou_itself_is_paid_by_the_newer_definition():
    texts = [answered("[0, 0, 2, 2]"), answered("[0,0,1,2]"), "[0,0,2,2]"]

    assert rec_iou_value(texts, solution=[[0, 0, 2, 2], [0, 0, 2, 2], "?"]) == [1.0, 0.5, None]


def test_a_box_in_the_frame_of_the_shown_image_is_compared_in_the_image():
    """Given gold in the image's pixels and a model that saw it at half the size, or in 1/1000."""
    gold, image = [200, 100, 600, 300], [1400, 700]
    columns = {"solution": [gold] * 2, "image_size": [image] * 2}
    texts = [answered("[100, 50, 300, 150]"), answered(gold)]
    assert rec_iou(texts, **columns, shown_size=[[700, 350]] * 2) == [1.0, 0.0]

    thousandths = answered([1000 * 200 / 1400, 1000 * 100 / 700, 1000 * 600 / 1400, 3000 / 7])
    assert (
        rec_iou_value([thousandths] * 2, **columns, shown_size=[[1000, 1000]] * 2)
        == [pytest.approx(1.0)] * 2
    )


@given(st.integers(28, 3000), st.integers(28, 3000), st.sampled_from([28, 32]))
def test_the_shown_size_is_the_processors(width: int, height: int, side: int):
    if max(width, height) / min(width, height) > 100:
        return
    bounds = {"min_pixels": 4 * side * side, "max_pixels": 262144}
    height_shown, width_shown = smart_resize(height, width, factor=side, **bounds)
    assert shown_size((width, height), token_side=side, **bounds) == (width_shown, height_shown)


@given(st.integers(1, 2000), st.integers(1, 2000), st.floats(0.1, 9), st.floats(0.1, 9))
def test_a_box_keeps_its_overlap_in_any_frame(width: int, height: int, x: float, y: float):
    first, second = (0.0, 0.0, x, y), (x / 3, y / 4, x + 1, y + 2)
    moved = [in_image(box, (width, height), (640, 480)) for box in (first, second)]
    assert iou(*moved) == pytest.approx(iou(first, second))


def test_sizes_are_those_of_the_image_as_a_viewer_shows_it(tmp_path: Path):
    image = Image.new("RGB", (1000, 500))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "x.jpg", exif=exif)
    bounds = {"token_side": 28, "max_pixels": 262144}

    assert size_columns(tmp_path / "x.jpg", thousandths=False, **bounds) == {
        "image_size": [500, 1000],
        "shown_size": [336, 700],
    }
    assert size_columns(tmp_path / "x.jpg", thousandths=True, **bounds) == {
        "image_size": [500, 1000],
        "shown_size": [1000, 1000],
    }
