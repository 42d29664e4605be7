"""Generates the tiny pairwise-judging set, packed as OmniCritic's set is on the hub.

Each record shows one image, sound or clip with sound, asks about one aspect of it, and gives two
responses: one fits the medium, the other names another value of the same aspect. Media are never
shared between records, so the splits are disjoint, and in every split the fitting response is A as
often as B for every aspect.

The SFT annotations have two designed flaws, which the RL and test annotations do not have, so that
reinforcement learning has something to mend:

- the annotator hedges: on ``hedged_share`` of the questions about pitch the reasoning names the
  pitch rightly, but the verdict is ``equal``, 5 to 5;
- the annotator is brief: ``brief_share`` of the reasonings weigh accuracy alone, although the
  prompt asks for five dimensions.

As in the original, records come in two shapes, the archives bear odd names, and the paths (in the
media field and once more in the prompt's text) are absolute paths of somebody else's machines.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from components.download.tiny.media import SUFFIX, draw
from components.download.tiny.pack import write_tar, write_zip
from components.download.tiny.text import (
    ASPECTS,
    MODALITIES,
    SYSTEM_PROMPT,
    Aspect,
    Modality,
    user_prompt,
    verdict,
    verdict_text,
)
from omnistage.errors import machine_errors
from omnistage.events import Events
from omnistage.files import write_jsonl
from omnistage.settings import Settings

Split = Literal["sft", "rl", "test"]
SPLITS: tuple[Split, ...] = ("sft", "rl", "test")
JSONL: dict[Split, str] = {
    "sft": "final_sft_data.jsonl",
    "rl": "final_rl_data.jsonl",
    "test": "test_data.jsonl",
}
ARCHIVES: dict[Modality, str] = {
    "image": "rlaif-v-dataset.tar.gz",
    "audio": "Clotho-AQA dataset.zip",
    "video": r"C:\Users\tmfk1\video\video.zip",
}

_FOLDERS: dict[Modality, str] = {  # of the members; only the images' archive names its own folder
    "image": "rlaif-v-dataset/images/",
    "audio": "audio/",
    "video": "academic_source/",
}
_FOREIGN: dict[Modality, tuple[str, ...]] = {  # where the annotators' machines had those folders
    "image": ("/home/tmfk1/data/", "D:\\omni\\data\\", "/mnt/nas2/share/"),
    "audio": (
        "/home/tmfk1/data/Clotho-AQA dataset/",
        "D:\\omni\\data\\Clotho-AQA dataset\\",
        "/mnt/nas2/share/Clotho-AQA dataset/",
    ),
    "video": ("/home/tmfk1/video/", "C:\\Users\\tmfk1\\video\\", "/mnt/nas2/share/video/"),
}


class TinyDataSettings(Settings):
    """Size and seed of the tiny set, and the flaws of its SFT annotations."""

    sft: int = Field(default=960, ge=6, description="Records to fine-tune on, over all modalities.")
    rl: int = Field(default=960, ge=6, description="Records for reinforcement learning.")
    test: int = Field(default=320, ge=6, description="Held-out records to evaluate on.")
    seed: int = Field(default=0, ge=0, description="Seed of media, questions and annotations.")
    hedged_share: float = Field(
        default=2 / 3,
        ge=0,
        le=1,
        description="Share (0 to 1) of the SFT records about pitch whose verdict is a tie.",
    )
    brief_share: float = Field(
        default=2 / 3,
        ge=0,
        le=1,
        description="Share (0 to 1) of the SFT reasonings that weigh accuracy alone.",
    )


@dataclass(frozen=True)
class _Record:
    """One question about one medium, before it is written in either shape."""

    split: Split
    modality: Modality
    number: int  # within split and modality
    traits: dict[str, int]
    aspect: Aspect
    answers: tuple[str, str]  # response A, response B
    verdict: dict[str, Any]

    @property
    def member(self) -> str:
        """Name of the medium in its archive."""
        name = f"{self.split}{self.number:05}{SUFFIX[self.modality]}"
        return _FOLDERS[self.modality] + name


def write_dataset(
    folder: Path, settings: TinyDataSettings, events: Events | None = None
) -> dict[str, int]:
    """Write the archives and JSONL files of the tiny set into a folder.

    The same settings give the same bytes. Files are written under their final names, so the folder
    should be one that nobody reads yet.

    Args:
        folder: Where to write; made if missing.
        settings: Size and seed.
        events: Told how many media are drawn.

    Returns:
        The number of records by split (``sft``, ``rl``, ``test``) and of media by modality
        (``image``, ``audio``, ``video``), and how many verdicts are ``hedged``.

    Raises:
        InputError: If the folder cannot be written or the disk is full.
    """
    records = [r for m in MODALITIES for split in SPLITS for r in _records(split, m, settings)]
    media = _media(records, settings.seed, events)
    with machine_errors("writing the generated data set"):
        folder.mkdir(parents=True, exist_ok=True)
        for modality in MODALITIES:
            mine = [r for r in records if r.modality == modality]
            pack = write_tar if modality == "image" else write_zip
            pack(folder / ARCHIVES[modality], islice(media, len(mine)))
            for split in SPLITS:
                rows = (_row(r) for r in mine if r.split == split)
                write_jsonl(folder / modality / JSONL[split], rows)
    counts: dict[str, int] = {s: sum(r.split == s for r in records) for s in SPLITS}
    counts |= {m: sum(r.modality == m for r in records) for m in MODALITIES}
    counts["hedged"] = sum(r.verdict["better"] == "equal" for r in records)
    return counts


def _records(split: Split, modality: Modality, settings: TinyDataSettings) -> list[_Record]:
    """Make a split's records of one modality, which gets a third of the split.

    Aspect, side and hedge go round in turn, so that their shares are exact; then all is shuffled.
    """
    place = MODALITIES.index(modality)
    size = (getattr(settings, split) + len(MODALITIES) - 1 - place) // len(MODALITIES)
    rng = np.random.default_rng([settings.seed, SPLITS.index(split), place])
    aspects = ASPECTS[modality]
    records: list[_Record] = []
    for turn, number in enumerate(rng.permutation(size)):
        aspect = aspects[turn % len(aspects)]
        nth = turn // len(aspects)  # of this aspect; even ones fit A, odd ones B
        traits = {a.name: int(rng.integers(len(a.answers))) for a in aspects}
        right = traits[aspect.name]
        other = (right + int(rng.integers(1, len(aspect.answers)))) % len(aspect.answers)
        a, b, better = (right, other, "A") if nth % 2 == 0 else (other, right, "B")
        answers = (aspect.answers[a], aspect.answers[b])
        scores = aspect.scores if better == "A" else (aspect.scores[1], aspect.scores[0])
        if split == "sft" and aspect.name == "pitch" and _falls(nth // 2, settings.hedged_share):
            better, scores = "equal", (5, 5)
        thorough = split != "sft" or rng.random() >= settings.brief_share
        gold = verdict(aspect.answers[right], better, scores, thorough)
        records.append(_Record(split, modality, int(number), traits, aspect, answers, gold))
    return sorted(records, key=lambda r: r.number)


def _falls(nth: int, share: float) -> bool:
    """Tell whether the ``nth`` of a row of things is among the evenly spread ``share`` of them."""
    return int((nth + 1) * share) > int(nth * share)


def _row(record: _Record) -> dict[str, Any]:
    """Write a record in one of OmniCritic's two shapes, with a foreign path in it.

    Every fourth row has the old shape. Gold is an object in some rows and JSON text in others, some
    rows repeat it in columns of their own, and some RL and test rows still hold the answer.
    """
    modality, number = record.modality, record.number
    base = _FOREIGN[modality][number % 3]
    path = base + record.member
    if "\\" in base:
        path = path.replace("/", "\\")
    prompt = user_prompt(modality, path, record.aspect.question, record.answers)
    text = verdict_text(record.verdict)
    gold: str | dict[str, Any] = record.verdict if number % 8 < 4 else text
    if number % 4 == 3:
        return {"input": f"{SYSTEM_PROMPT}\n{prompt}", "output": gold, modality: path}
    row: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": f"<{modality}>{prompt}"},
        ],
        f"{modality}s": [path],
        "solution": gold,
    }
    if record.split == "sft" or number % 4 == 0:
        row["messages"].append({"role": "assistant", "content": text})
    if number % 4 == 1:
        row |= {key: record.verdict[key] for key in ("better", "score_A", "score_B")}
    return row


def _media(records: list[_Record], seed: int, events: Events | None) -> Iterator[tuple[str, bytes]]:
    """Yield member name and bytes of each record's medium, drawn by two threads.

    The encoders do their work outside the interpreter's lock, so that threads are enough.
    """

    def one(record: _Record) -> tuple[str, bytes]:
        place = [SPLITS.index(record.split), MODALITIES.index(record.modality), record.number]
        return record.member, draw(record.modality, record.traits, (seed, *place))

    with ThreadPoolExecutor(2) as pool:
        for done, medium in enumerate(pool.map(one, records), 1):
            if events:
                events.progress(done, len(records), unit="media")
            yield medium
