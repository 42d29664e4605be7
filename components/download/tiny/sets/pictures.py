"""Draws the pictures of the generated sets: discs on a paper, one in a quarter."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

COLOURS = ("red", "green", "blue")
PLACES = ("top left", "top right", "bottom left", "bottom right")
_RGB = np.array([[210, 30, 40], [30, 170, 60], [40, 60, 220]], dtype=np.float32)


@dataclass(frozen=True)
class Disc:
    """A disc in a quarter of a picture."""

    quarter: int
    """Index in :data:`PLACES`."""
    colour: int
    """Index in :data:`COLOURS`."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom in pixels."""


def place(quarter: int, colour: int, side: int, rng: np.random.Generator) -> Disc:
    """Return a disc that fills nearly all of its quarter, somewhere near the middle of it."""
    half = side // 2
    radius = half * rng.uniform(0.40, 0.45)
    column = half * (quarter % 2 + 0.5) + half * rng.uniform(-0.05, 0.05)
    row = half * (quarter // 2 + 0.5) + half * rng.uniform(-0.05, 0.05)
    left, top, right, bottom = (
        round(v) for v in (column - radius, row - radius, column + radius, row + radius)
    )
    return Disc(quarter, colour, (left, top, right, bottom))


def picture(side: int, paper: int, discs: Sequence[Disc], rng: np.random.Generator) -> Image.Image:
    """Draw discs on a paper of one grey, with a little noise.

    Args:
        side: Width and height in pixels.
        paper: Grey of the paper, 0 to 255.
        discs: What is on it.
        rng: Of the noise.
    """
    pixels = np.full((side, side, 3), paper, dtype=np.float32)
    rows, columns = np.mgrid[0:side, 0:side]
    for disc in discs:
        left, top, right, bottom = disc.box
        row, column, radius = (top + bottom) / 2, (left + right) / 2, (right - left) / 2
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = _RGB[disc.colour]
    pixels += rng.uniform(-4, 4, pixels.shape).astype(np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    """Return the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
