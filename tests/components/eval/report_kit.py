"""A made-up evaluation, and a reader that gets the numbers back out of the report's HTML."""

import json
import math
import random
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import soundfile
from PIL import Image, ImageDraw

from components.eval.grading import Answer, Graded
from components.eval.records import TestRecord, as_test_record
from components.eval.report.data import ModelResult, ReportData, StageRun
from components.eval.tasks import TASKS
from omnistage.records.verdict import Better, Verdict, swap_better

WEIGHTS = {"mm_format": 0.4, "mm_content": 0.4, "mm_rubric": 0.2}
NO_VERDICT = Answer("no idea")


def answer(better: Better, text: str = "") -> Answer:
    """A valid verdict."""
    return Answer(text or f'{{"better": "{better}"}}', better)


def judgement(
    record: TestRecord,
    first: Answer,
    second: Answer,
    rewards: dict[str, float | None] | None = None,
) -> Graded:
    """A graded judgement of a record; the rewards default to .5 each."""
    given = dict.fromkeys(WEIGHTS, 0.5) if rewards is None else rewards
    score = record.task.record_score(record.gold, (first.said, second.said))
    return Graded(record.id, (first, second), score, cast(dict[str, float | None], given))


def png(path: Path, colour: str = "red", size: int = 64) -> Path:
    """A small picture of a disc."""
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((size // 4, size // 4, size * 3 // 4, size * 3 // 4), fill=colour)
    image.save(path)
    return path


def wav(path: Path, seconds: float = 0.4) -> Path:
    """A beep."""
    t = np.arange(int(8000 * seconds)) / 8000
    soundfile.write(path, 0.3 * np.sin(2 * math.pi * 440 * t), 8000)
    return path


def mp4(path: Path, codec: str = "libx264") -> Path:
    """A clip of eight frames."""
    with av.open(str(path), "w") as container:
        stream = cast(Any, container.add_stream(codec, rate=4))
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(8):
            picture = Image.new("RGB", (64, 64), "white")
            ImageDraw.Draw(picture).ellipse((i * 6, 24, i * 6 + 16, 40), fill="blue")
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


def record(
    name: str,
    gold: Better = "A",
    modality: str = "image",
    media: Path | None = None,
    asked: tuple[str, str, str] = ("Which colour?", "It is red.", "It is blue."),
) -> TestRecord:
    """A pair to judge."""
    question, a, b = asked
    scores = {"A": (9, 1), "B": (1, 9), "equal": (5, 5)}[gold]
    solution = Verdict(*scores, gold, "<think>So.</think>", f"<answer>[[{gold}]]</answer>")
    prompt = f"<{modality}>\nQuestion: {question}\nResponse A: {a}\nResponse B: {b}"
    row = {
        "id": name,
        "source": "made_up",
        "task": "judge",
        "messages": [{"role": "user", "content": prompt}],
        f"{modality}s": [str(media or f"absent-{name}.png")],
        "solution": json.dumps(solution.to_dict()),
    }
    return as_test_record(row, TASKS["judge"])


def four_pairs() -> ReportData:
    """Four pairs whose numbers can be worked out by hand; see the tests.

    Base never writes a verdict. SFT says A whatever it sees. GRPO is right but for one order.
    """
    records = [
        record("i1", "A"),
        record("i2", "B"),
        record("a1", "A", "audio"),
        record("a2", "B", "audio"),
    ]
    none: dict[str, float | None] = {"mm_format": 0.0, "mm_content": -1.0, "mm_rubric": -1.0}
    some: dict[str, float | None] = {"mm_format": 1.0, "mm_content": 0.0, "mm_rubric": 0.5}
    best: dict[str, float | None] = {"mm_format": 1.0, "mm_content": 1.0, "mm_rubric": 1.0}
    base = [judgement(r, NO_VERDICT, NO_VERDICT, none) for r in records]
    sft = [judgement(r, answer("A"), answer("A"), some) for r in records]
    grpo = [
        judgement(r, answer(cast(Better, r.gold)), answer(cast(Better, r.gold)), best)
        for r in records
    ]
    grpo[3] = judgement(records[3], answer("B"), answer("A"), best)
    models = [ModelResult("base", base), ModelResult("sft", sft), ModelResult("grpo", grpo)]
    return ReportData("tiny", models, records, WEIGHTS, bootstrap_samples=200)


@dataclass
class Page(HTMLParser):
    """What a reader sees: the tables by id, and every element with its attributes."""

    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._rows: list[list[str]] = []
        self._cell = self._quiet = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self._rows = self.tables.setdefault(dict(attrs).get("id") or "", [])
        if tag == "tr":
            self._rows.append([])
        self._cell = tag in ("td", "th") or (self._cell and tag not in ("tr", "table"))
        if tag in ("td", "th"):
            self._rows[-1].append("")
        if tag == "br":
            self.handle_data(" ")
        self._quiet = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False
        self._quiet = False

    def handle_data(self, data: str) -> None:
        if self._quiet:
            return
        self.text += data
        if self._cell:
            self._rows[-1][-1] += data

    def row(self, table: str, name: str) -> dict[str, str]:
        """The row whose first cell is ``name``, by the heads of its columns."""
        head, *rows = self.tables[table]
        found = next(r for r in rows if r[0].strip() == name)
        return dict(zip(map(str.strip, head), map(str.strip, found), strict=False))


def read(html: str) -> Page:
    """Read a report."""
    page = Page()
    page.feed(html)
    page.text = re.sub(r"\s+", " ", page.text)
    return page


def made_up(folder: Path, pairs: int = 180, seed: int = 1) -> ReportData:
    """An evaluation as a tiny run gives it, with media, noise and every section filled."""
    random_ = random.Random(seed)
    media = {
        "image": [png(folder / f"{c}.png", c) for c in ("red", "green", "blue")],
        "audio": [wav(folder / f"beep{i}.wav", 0.3 * i) for i in (1, 2, 3)],
        "video": [mp4(folder / "clip.mp4")],
    }
    asked = {
        "image": ("Which colour is drawn?", "It is drawn in red.", "It is drawn in blue."),
        "audio": ("How many beeps are there?", "There is one beep.", "There are three beeps."),
        "video": ("Which way does the ball roll?", "The ball rolls left.", "The ball rolls right."),
    }
    records = []
    for i in range(pairs):
        kind = ("image", "audio", "video")[i % 3]
        gold: Better = "A" if random_.random() < 0.5 else "B"
        path = media[kind][i // 3 % len(media[kind])]
        # A medium of its own, for intervals are clustered by medium.
        own = path.with_name(f"{i}-{path.name}")
        own.hardlink_to(path)
        records.append(record(f"{kind}-{i:04d}", gold, kind, own, asked[kind]))
    skill = {"base": 0.0, "sft": 0.64, "grpo": 0.82}
    models = [
        ModelResult(name, [_guess(r, p, random_) for r in records]) for name, p in skill.items()
    ]
    return ReportData(
        recipe="tiny",
        models=models,
        records=records,
        reward_weights=WEIGHTS,
        curves={"sft": _sft_log(random_), "grpo": _grpo_log(random_)},
        stages=_stages(),
        bootstrap_samples=500,
        seeds={"data": 1, "sft": 1, "grpo": 1},
        notes=["The tiny set's SFT annotations hedge on pitch: they call those pairs equal."],
    )


def _guess(r: TestRecord, skill: float, random_: random.Random) -> Graded:
    if skill == 0:
        noise = Answer("}}<|im_end|>systemsystem\u0000")
        rewards: dict[str, float | None] = {"mm_format": 0, "mm_content": -1, "mm_rubric": -1}
        return judgement(r, noise, noise, rewards)

    def one() -> Answer:
        right = random_.random() < skill
        gold = cast(Better, r.gold)
        better: Better = gold if right else swap_better(gold)
        said = r.task.show(r.row).candidates[better == "B"][1]
        text = (
            f'{{"reasoning": "<think>{said} On accuracy '
            f'{better} is better.</think>", "score_A": {9 if better == "A" else 2}, "score_B": '
            f'{2 if better == "A" else 9}, "better": "{better}", "final_verdict": '
            f'"<answer>[[{better}]]</answer>"}}'
        )
        return answer(better, text)

    first = one()
    content = 0.9 if first.said == r.gold else -0.8
    return judgement(
        r, first, one(), {"mm_format": 1.0, "mm_content": content, "mm_rubric": skill - 0.2}
    )


def _sft_log(random_: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "loss": 6.1 * math.exp(-step / 60) + 0.1 + 0.15 * random_.random(),
            "token_acc": 1 - 0.9 * math.exp(-step / 50) - 0.02 * random_.random(),
            "grad_norm": 3 * math.exp(-step / 90) + random_.random(),
            "learning_rate": 1e-3 * (1 - step / 300),
        }
        for step in range(5, 301, 5)
    ]


def _grpo_log(random_: random.Random) -> list[dict[str, Any]]:
    rows = []
    for step in range(1, 81):
        content = -0.1 + 0.7 * step / 80 + 0.3 * (random_.random() - 0.5)
        rubric = 0.3 + 0.4 * step / 80 + 0.1 * random_.random()
        rows.append(
            {
                "step": step,
                "reward": 0.4 + 0.4 * content + 0.2 * rubric,
                "reward_std": 0.25 - 0.1 * step / 80,
                "rewards/MMFormat/mean": 0.97 + 0.03 * random_.random(),
                "rewards/MMFormat/std": 0.02,
                "rewards/MMContent/mean": content,
                "rewards/MMContent/std": 0.4,
                "rewards/MMRubric/mean": rubric,
                "rewards/MMRubric/std": 0.1,
                "completions/mean_length": 20 + 2 * random_.random(),
                "completions/clipped_ratio": 0.0,
                "frac_reward_zero_std": 0.2 + 0.3 * random_.random(),
                "kl": 0.002 * step * (1 + random_.random()),
                "loss": 0.001 * random_.random(),
                "grad_norm": 0.5 + random_.random(),
            }
        )
    return rows


def _stages() -> list[StageRun]:
    versions = {"omnistage": "0.1.0", "ms-swift": "4.6.0", "torch": "2.13.0"}
    names = {"download": 3.2, "rewrite_paths": 0.8, "sft": 61.0, "grpo": 151.4, "eval": None}
    return [
        StageRun(
            name,
            key=f"{i:02x}" * 32,
            digest="sha256:" + f"{i + 7:02x}" * 32,
            seconds=seconds,
            versions=versions if name in ("sft", "grpo", "eval") else {"omnistage": "0.1.0"},
            config={"seed": 1, "learning_rate": 1e-3, "steps": 300},
        )
        for i, (name, seconds) in enumerate(names.items())
    ]
