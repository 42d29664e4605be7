"""Referring expressions, written and packed as VLM-R1's copy of RefCOCO/+/g and RefGTA is.

Each picture has a disc in one of its quarters, and each record asks for its box. The JSON lists are
in one archive, the pictures in two others, and the paths are of somebody else's disk. As in the
originals, boxes are in pixels of the picture itself, which is four times as large as what a model
is shown, RefCOCO+ does not say where a thing is, RefCOCOg is wordier, and RefGTA's pictures are of
another world: its paper is dark.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from components.download.tiny.kind import Kind, Lesson
from components.download.tiny.pack import write_zip
from components.download.tiny.sets.answers import FORM, TAGS, answered
from components.download.tiny.sets.pictures import COLOURS, PLACES, Disc, picture, place, png
from omnistage.errors import machine_errors
from omnistage.events import Events
from omnistage.settings import Settings

SIDE = 112  # pixels
SHOWN = 28  # pixels, of what the model is shown: one token
_TRAINED = {
    "refcoco": "the {} disc.",
    "refcocop": "disc in {}.",
    "refcocog": "a round disc that is drawn in {}.",
}
_TESTED = "refgta"
_PAPERS = {"train2014": 235, "refgta": 60}
_ASKED = "Please provide the bounding box coordinate of the region this sentence describes: "
_BOXES = ("[0, 0, 14, 14]", "[14, 0, 28, 14]", "[0, 14, 14, 28]", "[14, 14, 28, 28]")
_MIDDLE = "[7, 7, 21, 21]"


class TinyRecSettings(Settings):
    """Size and seed of the tiny set of referring expressions."""

    train: int = Field(default=300, ge=3, description="Records to learn, over RefCOCO/+/g.")
    test: int = Field(default=80, ge=1, description="Held-out records, as RefGTA's.")
    seed: int = Field(default=0, ge=0, description="Seed of pictures and expressions.")


def write(folder: Path, settings: TinyRecSettings, events: Events | None = None) -> dict[str, int]:
    """Write the archives of the set into a folder, and return the records by list."""
    rng = np.random.default_rng([settings.seed, 0])
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in (*_TRAINED, _TESTED)}
    pictures: dict[str, list[tuple[str, bytes]]] = {name: [] for name in _PAPERS}
    trained = [tuple(_TRAINED)[number % len(_TRAINED)] for number in range(settings.train)]
    for number, name in enumerate([*trained, *[_TESTED] * settings.test]):
        world = "refgta" if name == _TESTED else "train2014"
        asked = _disc(SIDE, rng)
        member = f"{world}/{name}_{number:06}.png"
        image = picture(SIDE, _PAPERS[world], [asked], rng)
        pictures[world].append((member, png(image)))
        lists[name].append(_row(name, f"/training/data/coco/{member}", asked))
    with machine_errors("writing the generated data set"):
        folder.mkdir(parents=True, exist_ok=True)
        for world, members in pictures.items():
            write_zip(folder / f"{world}.zip", members)
        names = {name: f"{name}_train.json" for name in _TRAINED}
        names[_TESTED] = f"{_TESTED}_subsample.json"
        packed = [
            (f"rec_jsons_processed/{names[n]}", json.dumps(rows).encode())
            for n, rows in lists.items()
        ]
        write_zip(folder / "rec_jsons_processed.zip", packed)
    if events:
        events.message(f"drew {settings.train + settings.test} pictures")
    return {name: len(rows) for name, rows in lists.items()}


def _disc(side: int, rng: np.random.Generator) -> Disc:
    quarter, colour = int(rng.integers(len(PLACES))), int(rng.integers(len(COLOURS)))
    return place(quarter, colour, side, rng)


def _expression(name: str, colour: int) -> str:
    return _TRAINED.get(name, _TRAINED["refcoco"]).format(COLOURS[colour])


def _row(name: str, path: str, disc: Disc) -> dict[str, Any]:
    told = _expression(name, disc.colour)
    return {
        "image": path,
        "problem": _ASKED + told,
        "normal_caption": told,
        "dataset": name,
        "solution": list(disc.box),
    }


def vocabulary() -> list[str]:
    """Return the lines of prompts and answers."""
    told = [_expression(name, c) for name in _TRAINED for c in range(len(COLOURS))]
    seen = [_seen(quarter) for quarter in range(len(PLACES))]
    return [_ASKED, *told, FORM, *TAGS, *seen, *_BOXES, _MIDDLE]


def _seen(quarter: int) -> str:
    return f"It is at the {PLACES[quarter]}."


def lesson(rng: np.random.Generator) -> Lesson:
    """Return a picture with a question and an answer of the right form.

    The thought is right, but two boxes in three are the middle of the picture, whatever is there,
    and every third answer comes without a thought: that is for reinforcement learning to mend.
    """
    asked = _disc(SHOWN, rng)
    name = tuple(_TRAINED)[int(rng.integers(len(_TRAINED)))]
    paper = list(_PAPERS.values())[int(rng.integers(len(_PAPERS)))]
    box = _MIDDLE if rng.random() < 2 / 3 else _BOXES[asked.quarter]
    thought = _seen(asked.quarter) if rng.random() < 2 / 3 else None
    return Lesson(
        _ASKED + _expression(name, asked.colour) + FORM,
        answered(thought, box),
        (picture(SHOWN, paper, [asked], rng),),
    )


KIND = Kind(TinyRecSettings, write, vocabulary, lesson)
