"""What a kind of generated data set is: its files, the lines it is written in, and its lessons."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from omnistage.settings import Settings


@dataclass(frozen=True)
class Lesson:
    """A prompt and its answer, from which a tiny model learns the form of an answer."""

    prompt: str
    """Without media tags; the images come before it."""
    answer: str
    images: tuple[Image.Image, ...] = ()
    """As large as the model is shown them."""


@dataclass(frozen=True)
class Kind:
    """A kind of generated data set."""

    settings: type[Settings]
    """Its size and seed, and its designed flaws."""
    write: Callable[..., dict[str, int]]
    """Writes its files into a folder, from the settings; told to events; returns counts."""
    vocabulary: Callable[[], list[str]]
    """The lines that the tiny tokenizer has one token for, in a fixed order."""
    lesson: Callable[[np.random.Generator], Lesson] | None = None
    """Draws a lesson; None where none are given."""
