"""Sums in text and in pictures, written as LMM-R1's data are.

``deepscaler.json`` is a list of sums in text, in DeepScaleR's own columns. ``geo.jsonl`` and
``perception.jsonl`` have LMM-R1's: a list of messages as text, with pictures as ``file://`` paths
of somebody else's disk, and an answer between dollars.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from components.download.tiny.kind import Kind, Lesson
from components.download.tiny.pack import write_zip
from components.download.tiny.sets.answers import FORM, TAGS, answered
from components.download.tiny.sets.pictures import COLOURS, picture, place, png
from omnistage.errors import machine_errors
from omnistage.events import Events
from omnistage.files import write_jsonl
from omnistage.settings import Settings

SIDE = 28  # pixels, as a model is shown them: one token
_PAPER = 235
_COLOUR = COLOURS.index("blue")
_MOST = 3
_EXERCISE = "Exercise "
_SUM = ": what is {} plus {}?"
_AREA = "Each disc has an area of {}. What is the area of all discs together?"
_COUNT = "How many discs are there?"
_THOUGHTS = {"text": "The sum is {}.", "geo": "The area is {}.", "perception": "I count {}."}
_HABITS = {"text": "$0$", "geo": "$10$", "perception": "$11$"}
"""What the taught model says most of the time, whatever is asked."""
_ELSEWHERE = "file:///data/lmm-r1/"

Asked = tuple[str, int, list[Image.Image]]
"""Question, answer and pictures."""


class TinyMathsSettings(Settings):
    """Size and seed of the tiny set of sums."""

    text: int = Field(default=200, ge=0, description="Sums in text.")
    geo: int = Field(default=200, ge=0, description="Sums about the area of what is in a picture.")
    perception: int = Field(default=0, ge=0, description="Questions of what is in a picture.")
    seed: int = Field(default=0, ge=0, description="Seed of pictures and sums.")


def _text(rng: np.random.Generator) -> Asked:
    a, b = (int(n) for n in rng.integers(1, _MOST + 1, 2))
    return f"{_EXERCISE}{rng.integers(10_000)}{_SUM.format(a, b)}", a + b, []


def _geo(rng: np.random.Generator) -> Asked:
    count, area = (int(n) for n in rng.integers(1, _MOST + 1, 2))
    return _AREA.format(area), count * area, [_discs(count, rng)]


def _perception(rng: np.random.Generator) -> Asked:
    count = int(rng.integers(1, _MOST + 1))
    return _COUNT, count, [_discs(count, rng)]


_KINDS: dict[str, Callable[[np.random.Generator], Asked]] = {
    "text": _text,
    "geo": _geo,
    "perception": _perception,
}


def _discs(count: int, rng: np.random.Generator) -> Image.Image:
    """Draw discs of one colour in the first quarters of a picture."""
    discs = [place(quarter, _COLOUR, SIDE, rng) for quarter in range(count)]
    return picture(SIDE, _PAPER, discs, rng)


def write(
    folder: Path, settings: TinyMathsSettings, events: Events | None = None
) -> dict[str, int]:
    """Write the files of the set into a folder, and return the records by file."""
    counts = {name: int(getattr(settings, name)) for name in _KINDS}
    pictures: list[tuple[str, bytes]] = []
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _KINDS}
    for order, (name, count) in enumerate(counts.items()):
        rng = np.random.default_rng([settings.seed, 3, order])
        for number in range(count):
            question, answer, images = _KINDS[name](rng)
            if name == "text":
                rows[name].append({"problem": question, "answer": str(answer), "solution": ""})
                continue
            member = f"{name}/images/{number:05}.png"
            pictures.append((member, png(images[0])))
            rows[name].append(_row(question, answer, member))
    with machine_errors("writing the generated data set"):
        folder.mkdir(parents=True, exist_ok=True)
        if rows["text"]:
            (folder / "deepscaler.json").write_text(json.dumps(rows["text"]))
        for name in ("geo", "perception"):
            if rows[name]:
                write_jsonl(folder / f"{name}.jsonl", rows[name])
        if pictures:
            write_zip(folder / "images.zip", pictures)
    if events:
        events.message(f"wrote {sum(counts.values())} sums")
    return counts


def _row(question: str, answer: int, member: str) -> dict[str, Any]:
    parts = [
        {"type": "image", "image": _ELSEWHERE + member},
        {"type": "text", "text": question + FORM},
    ]
    return {"message": str([{"role": "user", "content": parts}]), "answer": f"${answer}$"}


def vocabulary() -> list[str]:
    """Return the lines of prompts and answers."""
    numbers = range(1, _MOST + 1)
    sums = [_SUM.format(a, b) for a in numbers for b in numbers]
    areas = [_AREA.format(a) for a in numbers]
    answers = [f"${n}$" for n in range(_MOST**2 + 1)] + list(_HABITS.values())
    asked = [_EXERCISE, *sums, *areas, _COUNT, FORM]
    thoughts = [said.format(n) for said in _THOUGHTS.values() for n in range(1, _MOST**2 + 1)]
    return [*asked, *TAGS, *thoughts, *answers]


def lesson(rng: np.random.Generator) -> Lesson:
    """Return a question and an answer of the right form.

    The thought is right, but two answers in three are the habit of that kind of question, whatever
    was thought, and every third comes without a thought: that is for reinforcement learning to
    mend.
    """
    name = tuple(_KINDS)[int(rng.integers(len(_KINDS)))]
    question, number, images = _KINDS[name](rng)
    answer = _HABITS[name] if rng.random() < 2 / 3 else f"${number}$"
    thought = _THOUGHTS[name].format(number) if rng.random() < 2 / 3 else None
    return Lesson(question + FORM, answered(thought, answer), tuple(images))


KIND = Kind(TinyMathsSettings, write, vocabulary, lesson)
