"""Questions about clips with sound, as in HumanOmniV2's IntentTrain and IntentBench.

Each row asks which colour the ball of a clip has, a multiple choice, or whether its tone is high,
to be judged by yes or no. Rows to learn have an answer with a context, what is seen and heard, and
a thought. The annotator of the cold start, which has the second half of each list, has two flaws
for reinforcement learning to mend: two thirds of the contexts leave out what the question is not
about, and where the ball is blue or the tone is high, two thirds of the answers are wrong although
the context is right.

Daily-Omni and WorldSense are as ``omnistage benchmark`` writes them: canonical records of choices.
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

SYSTEM = "Tell the context, think, and then answer."
"""As the twin's recipe gives it to rows."""
_OPTIONS = ["A. red", "B. green", "C. blue"]
_ASKED = ("Which colour does the ball have?", "Is the tone high?")
_BALLS = ("The ball is red.", "The ball is green.", "The ball is blue.")
_TONES = ("The tone is low.", "The tone is in the middle.", "The tone is high.")
_THOUGHTS = ("So I look at the ball.", "So I listen to the tone.")
_OPEN, _THINK, _ANSWER, _END = "<context>", "</context><think>", "</think><answer>", "</answer>"
_FLAWED_SHARE = 2 / 3
_LETTER = "\nAnswer with the letter of the right choice in <answer></answer>."
"""Of the canonical records, as ``omnistage benchmark`` asks."""
_FILES = {
    "intent-train": ("emer_rewrite.json", "social_iq_v2_rewrite.json"),
    "intent-bench": ("qa.json",),
    "daily-omni": ("records.jsonl",),
    "world-sense": ("records.jsonl",),
}


class TinyIntentSettings(Settings):
    """Which set is generated, its size and its seed."""

    name: Literal["intent-train", "intent-bench", "daily-omni", "world-sense"] = Field(
        default="intent-train", description="The set."
    )
    rows: int = Field(default=192, ge=4, description="Rows, over its files.")
    seed: int = Field(default=0, ge=0, description="Seed of clips and annotations.")


def write(
    folder: Path, settings: TinyIntentSettings, events: Events | None = None
) -> dict[str, int]:
    """Write a set's lists and its archive of clips into a folder, and return the rows by list."""
    name, files = settings.name, _FILES[settings.name]
    rows: dict[str, list[dict[str, Any]]] = {file: [] for file in files}
    clips: list[tuple[str, bytes]] = []
    for number, rng in _numbered(settings):
        traits = {"colour": number // 2 % 3, "pitch": int(rng.integers(3))}
        traits["direction"] = int(rng.integers(2))
        path = f"{name}_{number:05}.mp4"
        clips.append((f"videos/{path}", draw("video", traits, (*_seed(settings), number))))
        # The second half of a list is for the cold start, with its flaws.
        place = number // len(files)
        flawed = name == "intent-train" and place >= settings.rows // len(files) // 2
        listed = rows[files[number % len(files)]]
        if "records.jsonl" in files:
            listed.append(_record(name, path, traits))
        else:
            listed.append(_row(path, number % 4 // 2, traits, flawed, rng))
        if events:
            events.progress(len(clips), settings.rows, unit="media")
    with machine_errors("writing the generated data set"):
        folder.mkdir(parents=True, exist_ok=True)
        write_zip(folder / "videos.zip", clips)
        for file, listed in rows.items():
            if file.endswith(".jsonl"):
                write_jsonl(folder / file, listed)
            else:
                (folder / file).write_text(json.dumps(listed, indent=1))
    return {file: len(listed) for file, listed in rows.items()}


def _numbered(settings: TinyIntentSettings) -> Iterator[tuple[int, np.random.Generator]]:
    for number in range(settings.rows):
        yield number, np.random.default_rng([*_seed(settings), number])


def _seed(settings: TinyIntentSettings) -> tuple[int, int]:
    """Return what makes the clips of a set others than those of another."""
    return settings.seed, list(_FILES).index(settings.name)


def _row(
    path: str, kind: int, traits: dict[str, int], flawed: bool, rng: np.random.Generator
) -> dict[str, Any]:
    """Return a row whose solution has context, thought and answer.

    Args:
        path: Of the clip.
        kind: Index in the questions.
        traits: What the clip shows.
        flawed: Whether an annotator of the cold start writes it.
        rng: Of the flaws.
    """
    facts = [_BALLS[traits["colour"]], _TONES[traits["pitch"]]]
    wrong = flawed and rng.random() < _FLAWED_SHARE
    brief = flawed and rng.random() < _FLAWED_SHARE
    if kind == 0:
        answer = "A" if wrong and traits["colour"] == 2 else "ABC"[traits["colour"]]
    else:
        answer = "No" if wrong or traits["pitch"] < 2 else "Yes"
    context = facts[kind] if brief else "".join(facts)
    solution = f"{_OPEN}{context}{_THINK}{_THOUGHTS[kind]}{_ANSWER}{answer}{_END}"
    return {
        "problem": _ASKED[kind],
        "solution": solution,
        "path": path,
        "data_type": "video",
        "problem_type": ("multiple choice", "judge")[kind],
        "options": [] if kind else _OPTIONS,
    }


def _record(name: str, path: str, traits: dict[str, int]) -> dict[str, Any]:
    """Return a canonical record, a choice of the ball's colour."""
    asked = "\n".join([f"<video>\n{_ASKED[0]}", *_OPTIONS]) + _LETTER
    return {
        "id": f"{name}:{Path(path).stem}",
        "source": name,
        "task": "choice",
        "messages": [{"role": "user", "content": asked}],
        "videos": [f"videos/{path}"],
        "solution": "ABC"[traits["colour"]],
        "options": _OPTIONS,
    }


def vocabulary() -> list[str]:
    """Return the lines of prompts and answers."""
    lines = [SYSTEM, *_ASKED, *(f"\n{option}" for option in _OPTIONS), _LETTER]
    return [*lines, _OPEN, *_BALLS, *_TONES, _THINK, *_THOUGHTS, _ANSWER, "Yes", "No", _END]


KIND = Kind(TinyIntentSettings, write, vocabulary)
