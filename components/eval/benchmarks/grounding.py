"""Referring expressions: RefCOCO, RefCOCO+, RefCOCOg and RefGTA.

Boxes are in pixels of the image itself: ``bbox`` is left, top, width, height (COCO's, and the
tables on the hub), ``solution`` left, top, right, bottom (VLM-R1's and OmniRL's JSON).
"""

import json
from collections.abc import Iterator

from components.eval.benchmarks.benchmark import (
    Benchmark,
    Fetch,
    Folder,
    Item,
    LayoutError,
    Row,
    text_of,
)

_COCO = Fetch("train2014.zip of COCO", "cocodataset.org", "Flickr's terms of each image")
_ROWS = Fetch(
    "refcoco*_val.json, _testA.json and so on, or the tables on the hub",
    "hub: omlab/VLM-R1 (rec_jsons_processed), lmms-lab/RefCOCO",
    "as named there",
)


def _refcoco(row: Row, folder: Folder) -> Iterator[Item]:
    """One item for each expression: the tables list several for one box."""
    image = row.get("image") or row.get("file_name")
    name = text_of(row, "question_id", "id", "number")
    told = row.get("normal_caption") or row.get("answer") or row.get("sentence")
    expressions = told if isinstance(told, list) else [told or text_of(row, "problem")]
    for number, expression in enumerate(expressions):
        yield Item(
            id=f"{name}:{number}" if len(expressions) > 1 else name,
            task="rec",
            question=str(expression).strip(),
            gold=json.dumps(_box(row)),
            media=[folder.medium("images", image, name)],
        )


def _box(row: Row) -> list[float]:
    value = row.get("bbox") or row.get("solution")
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise LayoutError("bbox or solution: a box of four numbers is needed")
    left, top, third, fourth = map(float, value)
    if row.get("bbox"):
        third, fourth = left + third, top + fourth
    if third <= left or fourth <= top:
        raise LayoutError(f"{list(value)} is no box: its right and bottom are not beyond its left")
    return [left, top, third, fourth]


BENCHMARKS = tuple(
    Benchmark(
        name=name,
        title=title,
        files=(f"{name}_*.json", "*.parquet", "*.json", "*.jsonl"),
        read=_refcoco,
        fetch=fetch,
        protocols=("omnistage", "lmms_rec"),
    )
    for name, title, fetch in (
        ("refcoco", "RefCOCO", [_ROWS, _COCO]),
        ("refcocop", "RefCOCO+", [_ROWS, _COCO]),
        ("refcocog", "RefCOCOg", [_ROWS, _COCO]),
        (
            "refgta",
            "RefGTA",
            [Fetch("refgta_subsample.json, refgta.zip", "hub: omlab/VLM-R1", "as named there")],
        ),
    )
)
