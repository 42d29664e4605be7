"""Questions that are answered in words, written as OmniRL's data are.

Rows of text alone, of one picture and of two pictures. The first two stand mixed in a JSON list,
those of two in JSON Lines, and a mixture in YAML says how many of each to learn; its paths are of
somebody else's disk.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from pydantic import Field

from components.download.tiny.kind import Kind, Lesson
from components.download.tiny.pack import write_zip
from components.download.tiny.sets.answers import FORM, TAGS, answered
from components.download.tiny.sets.pictures import COLOURS, PLACES, picture, place, png
from omnistage.errors import machine_errors
from omnistage.events import Events
from omnistage.files import write_jsonl
from omnistage.settings import Settings

SIDE = 28  # pixels, as a model is shown them: one token
_PAPER = 235
_NUMBER = "Story "
_TOLD = ". The disc at the {} is {}. Which colour is it?"
_ONE = "Which colour is the disc in the picture?"
_TWO = "Which colours are the discs in the two pictures?"
_LONG = (
    " I look at what is asked, at each part of it, and at nothing else; I compare what I see with "
    "what is said, step by step, and only then do I say it."
)
_UNSURE = "I am not sure."
_ELSEWHERE = "/mnt/workspace/omnirl/"


class TinyWordsSettings(Settings):
    """Size and seed of the tiny set of questions that are answered in words."""

    train: int = Field(default=300, ge=3, description="Records to learn, a third of each kind.")
    test: int = Field(default=60, ge=3, description="Held-out records, a third of each kind.")
    seed: int = Field(default=0, ge=0, description="Seed of pictures and stories.")


Asked = tuple[str, str, list[Image.Image]]
"""Question, answer and pictures."""


def _told(rng: np.random.Generator) -> Asked:
    quarter, colour = int(rng.integers(len(PLACES))), int(rng.integers(len(COLOURS)))
    question = f"{_NUMBER}{rng.integers(10_000)}{_TOLD.format(PLACES[quarter], COLOURS[colour])}"
    return question, _colour(colour), []


def _one(rng: np.random.Generator) -> Asked:
    colour, image = _drawn(rng)
    return _ONE, _colour(colour), [image]


def _two(rng: np.random.Generator) -> Asked:
    (first, one), (second, other) = _drawn(rng), _drawn(rng)
    return _TWO, _colours(first, second), [one, other]


_KINDS: tuple[Callable[[np.random.Generator], Asked], ...] = (_told, _one, _two)


def _drawn(rng: np.random.Generator) -> tuple[int, Image.Image]:
    quarter, colour = int(rng.integers(len(PLACES))), int(rng.integers(len(COLOURS)))
    return colour, picture(SIDE, _PAPER, [place(quarter, colour, SIDE, rng)], rng)


def _colour(colour: int) -> str:
    return f"It is {COLOURS[colour]}."


def _colours(first: int, second: int) -> str:
    return f"They are {COLOURS[first]} and {COLOURS[second]}."


def write(
    folder: Path, settings: TinyWordsSettings, events: Events | None = None
) -> dict[str, int]:
    """Write the files of the set into a folder, and return the records by file."""
    rng = np.random.default_rng([settings.seed, 2])
    pictures: list[tuple[str, bytes]] = []
    rows: dict[str, list[dict[str, Any]]] = {"mixed": [], "multi_image": [], "test": []}
    for number in range(settings.train + settings.test):
        kind = number % len(_KINDS)
        trained = number < settings.train
        file = "test" if not trained else "multi_image" if _KINDS[kind] is _two else "mixed"
        question, answer, images = _KINDS[kind](rng)
        names = [f"images/{file}_{number:05}_{place}.png" for place in range(len(images))]
        pictures += zip(names, map(png, images), strict=True)
        row: dict[str, Any] = {"problem": question, "solution": f"<answer> {answer} </answer>"}
        if names:  # one as a text, several as a list
            paths = [_ELSEWHERE + name for name in names]
            row["image"] = paths[0] if len(paths) == 1 else paths
        rows[file].append(row)
    lists = {
        "datasets": [
            {"json_path": f"{_ELSEWHERE}mixed.json", "sampling_strategy": "all"},
            {"json_path": f"{_ELSEWHERE}multi_image.jsonl", "sampling_strategy": "random:80%"},
        ]
    }
    with machine_errors("writing the generated data set"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mixed.json").write_text(json.dumps(rows["mixed"]))
        write_jsonl(folder / "multi_image.jsonl", rows["multi_image"])
        write_jsonl(folder / "test.jsonl", rows["test"])
        (folder / "omnirl.yaml").write_text(yaml.safe_dump(lists))
        write_zip(folder / "images.zip", pictures)
    if events:
        events.message(f"drew {len(pictures)} pictures")
    return {name: len(listed) for name, listed in rows.items()}


def vocabulary() -> list[str]:
    """Return the lines of prompts and answers."""
    told = [_TOLD.format(place, colour) for place in PLACES for colour in COLOURS]
    colours = range(len(COLOURS))
    answers = [_colour(c) for c in colours]
    answers += [_colours(a, b) for a in colours for b in colours]
    return [_NUMBER, *told, _ONE, _TWO, FORM, *TAGS, _LONG, *answers, _UNSURE]


def lesson(rng: np.random.Generator) -> Lesson:
    """Return a question and an answer of the right form.

    The thought is right, but two answers in three say that they are not sure, two thoughts in three
    are short, and one answer in four comes without a thought: that is for reinforcement learning
    to mend.
    """
    question, right, images = _KINDS[int(rng.integers(len(_KINDS)))](rng)
    thought = right if rng.random() < 2 / 3 else right + _LONG
    answer = _UNSURE if rng.random() < 2 / 3 else right
    return Lesson(
        question + FORM, answered(thought if rng.random() < 3 / 4 else None, answer), tuple(images)
    )


KIND = Kind(TinyWordsSettings, write, vocabulary, lesson)
