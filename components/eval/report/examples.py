"""Which test records the report shows, and what each model made of them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.eval.grading import Answer, Graded
from components.eval.records import TestRecord
from components.eval.report.boxes import Drawn, boxes_of
from components.eval.report.data import ModelResult, title_of, total_reward
from components.eval.report.embed import MEDIUM_LIMIT, Medium, embed
from components.eval.tasks.task import Shown

PER_MODALITY = 4
"""Examples of each task and modality, for each kind of outcome in turn."""
PER_ABLATION = 4
"""Further examples of each task whose score moves without a modality."""
TOTAL_LIMIT = 16_000_000
"""Bytes of media that a report embeds in all; further ones come as stills or notes."""
_TEXT_LIMIT = 4000
_KINDS = (("videos", "video"), ("images", "image"), ("audios", "audio"))

_ById = Mapping[str, Mapping[str, Graded]]
"""Answers by model and record."""


@dataclass(frozen=True)
class Opinion:
    """One model's answers to the example.

    Attributes:
        model: The model's name.
        answers: Its answers, one for each prompt.
        score: Their mean score, 0 to 1.
        reward: Its total reward, or ``None`` when no reward applied.
        ablated: By ablation, its answers and score where that changes the record.
    """

    model: str
    answers: Sequence[Answer]
    score: float
    reward: float | None
    ablated: Mapping[str, Graded]


@dataclass(frozen=True)
class Example:
    """A test record with its medium and what each model said.

    Attributes:
        record: The record.
        shown: The record as people read it.
        headline: Why it is shown, such as ``GRPO right, SFT wrong``.
        outcomes: Words that the page's filter knows, each with the number of the model after a
            colon: ``right:0``, ``wrong``, ``invalid``, ``error``, and each ablation that moves the
            model's score.
        medium: The medium, ready for the page; None for a record of text alone.
        opinions: One for each model.
        boxes: Boxes to draw on the image.
    """

    record: TestRecord
    shown: Shown
    headline: str
    outcomes: Sequence[str]
    medium: Medium | None
    opinions: Sequence[Opinion]
    boxes: Drawn | None = None


def choose(
    records: Sequence[TestRecord],
    models: Sequence[ModelResult],
    reward_weights: Mapping[str, float],
    ablations: Mapping[str, Sequence[ModelResult]] | None = None,
    per_modality: int = PER_MODALITY,
) -> list[Example]:
    """Pick records of every task and modality that show where the last two models differ.

    Of each, in turn: one that the last model has right in more orders than the model before it, one
    where it is the other way round, one that both have right, one that neither has. Within each of
    the four the order of the test file decides, so the choice is the same each time. Then records
    whose score moves without a modality.
    """
    graded, ablated = _by_id(models), _ablated(ablations)
    left = TOTAL_LIMIT
    examples = []
    groups: dict[tuple[str, str], list[TestRecord]] = {}
    for record in records:
        groups.setdefault((record.task.name, record.modality), []).append(record)
    picked = [r for rows in groups.values() for r in _in_turn(rows, graded, per_modality)]
    for record in [*picked, *_moved(records, picked, graded, ablated)]:
        medium = _medium(record.row, min(MEDIUM_LIMIT, left))
        left -= len(medium.uri or "") * 3 // 4 if medium else 0
        examples.append(_example(record, graded, medium, reward_weights, ablated))
    return examples


def others(
    records: Sequence[TestRecord],
    models: Sequence[ModelResult],
    reward_weights: Mapping[str, float],
    ablations: Mapping[str, Sequence[ModelResult]] | None = None,
) -> list[Example]:
    """Return examples of these records, in their order, without their media."""
    graded, ablated = _by_id(models), _ablated(ablations)
    return [_example(r, graded, None, reward_weights, ablated) for r in records]


def _ablated(ablations: Mapping[str, Sequence[ModelResult]] | None) -> dict[str, _ById]:
    return {ablation: _by_id(of) for ablation, of in (ablations or {}).items()}


def _by_id(models: Sequence[ModelResult]) -> dict[str, dict[str, Graded]]:
    return {m.name: {g.id: g for g in m.graded} for m in models}


def _moved(
    records: Sequence[TestRecord],
    picked: Sequence[TestRecord],
    graded: _ById,
    ablated: Mapping[str, _ById],
) -> Iterator[TestRecord]:
    """Yield, of each task and ablation, the first records whose score the last model changes."""
    last = list(graded)[-1]
    shown = {record.id for record in picked}
    for models in ablated.values():
        counts: Counter[str] = Counter()
        for record in records:
            other, task = models[last].get(record.id), record.task.name
            if other is None or record.id in shown or counts[task] == PER_ABLATION:
                continue
            if other.score != graded[last][record.id].score:
                counts[task] += 1
                shown.add(record.id)
                yield record


def shortened(text: str) -> str:
    """Return a model's text, cut after 4,000 characters with a remark on how many are left out."""
    if len(text) <= _TEXT_LIMIT:
        return text
    return f"{text[:_TEXT_LIMIT]}\n… {len(text) - _TEXT_LIMIT:,} more characters"


def _medium(row: Mapping[str, Any], limit: int) -> Medium | None:
    for key, kind in _KINDS:
        if row.get(key):
            return embed(Path(row[key][0]), kind, limit)  # pyright: ignore[reportArgumentType]
    return None


def _in_turn(records: Sequence[TestRecord], graded: _ById, most: int) -> Iterator[TestRecord]:
    groups: list[list[TestRecord]] = [[], [], [], []]
    gaps: dict[str, float] = {}
    for record in records:
        scores = [of[record.id].score for of in graded.values()]
        new, old = scores[-1], scores[-2] if len(scores) > 1 else scores[-1]
        gaps[record.id] = abs(new - old)
        groups[0 if new > old else 1 if new < old else 2 if new == 1 else 3].append(record)
    # The widest gaps first: right in both orders against wrong in both.
    for group in groups[:2]:
        group.sort(key=lambda r: -gaps[r.id])
    shown = 0
    while any(groups) and shown < most:
        for group in groups:
            if group and shown < most:
                shown += 1
                yield group.pop(0)


def _example(
    record: TestRecord,
    models: _ById,
    medium: Medium | None,
    weights: Mapping[str, float],
    ablations: Mapping[str, _ById],
) -> Example:
    graded = {name: by_id[record.id] for name, by_id in models.items()}
    ablated = {
        ablation: {n: by_id[record.id] for n, by_id in of.items() if record.id in by_id}
        for ablation, of in ablations.items()
    }
    opinions = [
        Opinion(
            name,
            g.answers,
            g.score,
            total_reward(g.rewards, weights),
            {ablation: of[name] for ablation, of in ablated.items() if name in of},
        )
        for name, g in graded.items()
    ]
    outcomes = [f"{word}:{number}" for number, o in enumerate(opinions) for word in _outcomes(o)]
    shown = record.task.show(record.row) if record.prompts else Shown(record.error or "", (), "")
    boxes = boxes_of(record, graded) if record.task.boxes and medium else None
    return Example(record, shown, _headline(opinions), outcomes, medium, opinions, boxes)


def _headline(opinions: Sequence[Opinion]) -> str:
    """Say in words how the last two models did; a model right in one order only is half right."""
    told = [(title_of(o.model), _in_words(o)) for o in opinions[::-1][:2]]
    if len(told) == 2 and told[0][1] == told[1][1]:
        return f"{told[0][0]} and {told[1][0]} {told[0][1]}"
    return ", ".join(f"{name} {word}" for name, word in told)


def _in_words(opinion: Opinion) -> str:
    if opinion.score in (0, 1):
        return "right" if opinion.score else "wrong"
    return "right in one order only" if len(opinion.answers) == 2 else f"{opinion.score:.0%} right"


def _outcomes(opinion: Opinion) -> list[str]:
    found = ["right" if opinion.score == 1 else "wrong"]
    if any(a.said is None and a.error is None for a in opinion.answers):
        found.append("invalid")
    if any(a.error for a in opinion.answers):
        found.append("error")
    moved = (name for name, g in opinion.ablated.items() if g.score != opinion.score)
    return [*found, *moved]
