"""Boxes drawn on a record's image: the gold one and those that the models name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image, ImageOps, UnidentifiedImageError

from components.eval.grading import Graded
from components.eval.records import TestRecord
from components.eval.report.data import TITLES, title_of
from omnistage.rewards.grounding import read_box


@dataclass(frozen=True)
class Drawn:
    """Boxes over an image.

    Attributes:
        picture: An SVG that covers the image, whatever its size on the page.
        legend: Name and style of each box, in order.
    """

    picture: Markup
    legend: list[tuple[str, str]]


def boxes_of(record: TestRecord, graded: Mapping[str, Graded]) -> Drawn | None:
    """Return the boxes of a record, in pixels of its image; None where there is no image to see.

    Args:
        record: A record whose task has boxes.
        graded: Each model's answer.
    """
    images = record.row.get("images")
    if not images:
        return None
    try:
        with Image.open(Path(images[0])) as image:
            width, height = ImageOps.exif_transpose(image).size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    named = [("gold", "gold-box", record.gold)]
    named += [
        (title_of(name), name if name in TITLES else "neutral", g.said[0] or "")
        for name, g in graded.items()
    ]
    parts, legend = [], []
    for title, style, text in named:
        box = read_box(text)
        if box is None:
            continue
        left, top, right, bottom = box
        legend.append((title, style))
        parts.append(
            Markup(
                '<rect class="box {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                "<title>{}</title></rect>"
            ).format(style, left, top, right - left, bottom - top, title)
        )
    picture = Markup(
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(
        width, height, "Boxes: " + ", ".join(title for title, _ in legend), Markup("").join(parts)
    )
    return Drawn(picture, legend)
