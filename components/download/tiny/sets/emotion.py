"""Emotions in clips with sound, written as R1-Omni's rows are.

A clip shows a face, a disc whose colour is its expression, and lets a voice be heard. A red face is
angry and a green one happy; a blue one is sad, but with a high voice it is afraid. So picture and
sound are both needed.

The annotator of EMER, from which the cold start learns, sees and hears rightly, but calls two
thirds of the sad and of the frightened neutral: that is for reinforcement learning to mend, on MAFW
and DFEW, whose rows have the label alone. RAVDESS has file names of seven fields and calls fear
fearful.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from components.download.tiny.kind import Kind
from components.download.tiny.media import draw
from components.download.tiny.pack import write_zip
from omnistage.errors import machine_errors
from omnistage.events import Events
from omnistage.files import write_jsonl
from omnistage.settings import Settings

EMOTIONS = ("angry", "happy", "sad", "fear")
QUESTION = (
    "As an emotional recognition expert; throughout the video, which emotion conveyed by the "
    "characters is the most obvious to you?"
)
"""R1-Omni's, of every row."""
FORM = (
    " Output the thinking process in <think> </think> and final emotion in <answer> </answer> tags."
)
"""What its rows of the cold start have behind the question, and its trainer adds to the others."""
_FACES = ("The face is red.", "The face is green.", "The face is blue.")
_VOICES = ("The voice is low.", "The voice is in the middle.", "The voice is high.")
_CLOSED, _END = "</think>\n<answer>", "</answer>"
_HEDGED, _HEDGED_SHARE = "neutral", 2 / 3
_PLACES = {
    "emer": "MER24/sample_{:08}.mp4",
    "mafw": "MAFW/videos/{:05}.mp4",
    "dfew": "DFEW/videos/{}.mp4",
    "ravdess": "videos/01-01-{}-01-01-01-{:02}.mp4",
}
_FIELDS = {"angry": "05", "happy": "03", "sad": "04", "fear": "06"}  # of RAVDESS's file names
_RAVDESS = {"fear": "fearful"}  # RAVDESS's own names


class TinyEmotionSettings(Settings):
    """Which set is generated, its size and its seed."""

    name: Literal["emer", "mafw", "dfew", "ravdess"] = Field(default="emer", description="The set.")
    train: int = Field(default=96, ge=0, description="Records to learn; RAVDESS has none.")
    test: int = Field(default=40, ge=0, description="Held-out records; EMER has none.")
    seed: int = Field(default=0, ge=0, description="Seed of clips and annotations.")


def write(
    folder: Path, settings: TinyEmotionSettings, events: Events | None = None
) -> dict[str, int]:
    """Write a set's lists and clips into a folder, and return the records by split."""
    name = settings.name
    sizes = {"train": settings.train, "test": settings.test}
    sizes.pop({"emer": "test", "ravdess": "train"}.get(name, ""), None)
    clips: list[tuple[str, bytes]] = []
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in sizes}
    for split, number, rng in _numbered(settings, sizes):
        emotion = EMOTIONS[number % len(EMOTIONS)]
        traits = _traits(emotion, rng)
        path = _path(name, emotion, number)
        clips.append((path, draw("video", traits, (*_seed(settings), number))))
        rows[split].append(_row(name, path, emotion, traits, rng))
        if events:
            events.progress(len(clips), sum(sizes.values()), unit="media")
    with machine_errors("writing the generated data set"):
        folder.mkdir(parents=True, exist_ok=True)
        if name == "ravdess":  # as `omnistage benchmark ravdess` writes it
            for path, clip in clips:
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_bytes(clip)
            write_jsonl(folder / "records.jsonl", rows["test"])
        else:
            write_zip(folder / f"{clips[0][0].partition('/')[0]}.zip", clips)
            for split, listed in rows.items():
                (folder / f"{name}_{split}.json").write_text(json.dumps(listed, indent=1))
    return {split: len(listed) for split, listed in rows.items()}


def _numbered(
    settings: TinyEmotionSettings, sizes: dict[str, int]
) -> Iterator[tuple[str, int, np.random.Generator]]:
    number = 0
    for split, size in sizes.items():
        for _ in range(size):
            yield split, number, np.random.default_rng([*_seed(settings), number])
            number += 1


def _seed(settings: TinyEmotionSettings) -> tuple[int, int]:
    """Return what makes the clips of a set others than those of another."""
    return settings.seed, list(_PLACES).index(settings.name)


def _traits(emotion: str, rng: np.random.Generator) -> dict[str, int]:
    """Return what a clip of an emotion shows and lets be heard."""
    face = min(EMOTIONS.index(emotion), 2)
    voice = {"sad": int(rng.integers(2)), "fear": 2}.get(emotion, int(rng.integers(3)))
    return {"colour": face, "pitch": voice, "direction": int(rng.integers(2))}


def _path(name: str, emotion: str, number: int) -> str:
    values = (_FIELDS[emotion], number) if name == "ravdess" else (number,)
    return _PLACES[name].format(*values)


def _row(
    name: str, path: str, emotion: str, traits: dict[str, int], rng: np.random.Generator
) -> dict[str, Any]:
    """Return a row: R1-Omni's, or of RAVDESS a canonical record."""
    if name == "ravdess":
        return {
            "id": Path(path).stem,
            "source": name,
            "task": "emotion",
            "messages": [{"role": "user", "content": f"<video>\n{QUESTION}{FORM}"}],
            "videos": [path],
            "solution": _RAVDESS.get(emotion, emotion),
        }
    answer = emotion
    if name == "emer":
        hedges = emotion in ("sad", "fear") and rng.random() < _HEDGED_SHARE
        seen = _FACES[traits["colour"]] + _VOICES[traits["pitch"]]
        answer = f"<think>{seen}{_CLOSED}{_HEDGED if hedges else emotion}{_END}"
    asked = f"<video>\n<audio>\n{QUESTION}{FORM if name == 'emer' else ''}"
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return {"video": path, "conversations": turns}


def vocabulary() -> list[str]:
    """Return the lines of prompts and answers."""
    return [QUESTION, FORM, "<think>", *_FACES, *_VOICES, _CLOSED, *EMOTIONS, _HEDGED, _END]


KIND = Kind(TinyEmotionSettings, write, vocabulary)
