"""The sizes that the rewards for boxes need, as columns of the training file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omnistage.errors import InputError
from omnistage.files import read_jsonl, write_jsonl
from omnistage.rewards.grounding import size_columns
from omnistage.swift.family import Family

_NONE = {"image_size": None, "shown_size": None}


def add_sizes(dataset: Path, family: Family, max_pixels: int) -> int:
    """Add ``image_size`` and ``shown_size`` to the records about boxes, and return how many.

    A file without such records stays as it is.

    Args:
        dataset: The trainer's input file, with absolute media paths.
        family: Of the model, which says what its boxes are in.
        max_pixels: Bound on the pixels of a shown image.

    Raises:
        InputError: If such a record has no image, or one that cannot be read.
    """
    count = sum(row.get("task") == "rec" for row in read_jsonl(dataset))
    if not count:
        return 0

    def rows() -> Iterator[dict[str, Any]]:
        for row in read_jsonl(dataset):
            yield row | (_sizes(row, family, max_pixels) if row.get("task") == "rec" else _NONE)

    sized = dataset.with_suffix(".sized")
    write_jsonl(sized, rows())
    sized.replace(dataset)
    return count


def _sizes(row: dict[str, Any], family: Family, max_pixels: int) -> dict[str, Any]:
    try:
        return size_columns(
            Path(row["images"][0]),
            thousandths=family.boxes_in_thousandths,
            token_side=family.token_side,
            max_pixels=max_pixels,
        )
    except (OSError, KeyError, IndexError) as e:
        raise InputError(f"{row.get('id')}: a record with a box needs its image: {e}") from e
