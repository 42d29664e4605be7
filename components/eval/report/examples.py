"""Which test records the report shows, and what each model made of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from components.eval.report.data import (
    TITLES,
    Answer,
    EvalRecord,
    Judgement,
    ModelName,
    ModelResult,
    total_reward,
    winner,
)
from components.eval.report.embed import MEDIUM_LIMIT, Medium, embed

PER_MODALITY = 4
"""Examples of each modality."""
TOTAL_LIMIT = 16_000_000
"""Bytes of media that a report embeds in all; further ones come as stills or notes."""
_TEXT_LIMIT = 4000


@dataclass(frozen=True)
class Opinion:
    """One model's answers to the example.

    Attributes:
        model: The model's name.
        first: Its answer in the record's order.
        second: Its answer with the responses swapped.
        right: In how many of the two orders it was right.
        reward: Its total reward, or ``None`` when no reward applied.
    """

    model: ModelName
    first: Answer
    second: Answer
    right: int
    reward: float | None


@dataclass(frozen=True)
class Example:
    """A test record with its medium and what each model said.

    Attributes:
        record: The record.
        headline: Why it is shown, such as ``GRPO right, SFT wrong``.
        medium: The medium, ready for the page.
        opinions: One for each model.
    """

    record: EvalRecord
    headline: str
    medium: Medium
    opinions: Sequence[Opinion]


def choose(
    records: Sequence[EvalRecord],
    models: Sequence[ModelResult],
    reward_weights: Mapping[str, float],
    per_modality: int = PER_MODALITY,
) -> list[Example]:
    """Pick records of every modality that show where the last two models differ and where not.

    Of each modality, in turn: one that the last model has right in more orders than the model
    before it, one where it is the other way round, one that both have right, one that neither has.
    Within each of the four the order of the test file decides, so the choice is the same each time.
    """
    judged: dict[ModelName, dict[str, Judgement]] = {
        m.name: {j["id"]: j for j in m.judgements} for m in models
    }
    left = TOTAL_LIMIT
    examples = []
    for modality in dict.fromkeys(r.modality for r in records):
        rows = [r for r in records if r.modality == modality]
        for record in _in_turn(rows, judged, per_modality):
            medium = embed(record.media, record.media_type, min(MEDIUM_LIMIT, left))
            left -= len(medium.uri or "") * 3 // 4
            opinions = [
                _opinion(name, of[record.id], record, reward_weights) for name, of in judged.items()
            ]
            examples.append(Example(record, _headline(opinions), medium, opinions))
    return examples


def times_right(judgement: Judgement) -> int:
    """Return in how many of the two orders the model prefers the gold response: 0, 1 or 2."""
    return sum(winner(judgement[order]) == judgement["gold"] for order in ("first", "second"))


def shortened(text: str) -> str:
    """Return a model's text, cut after 4,000 characters with a remark on how many are left out."""
    if len(text) <= _TEXT_LIMIT:
        return text
    return f"{text[:_TEXT_LIMIT]}\n… {len(text) - _TEXT_LIMIT:,} more characters"


def _in_turn(
    records: Sequence[EvalRecord],
    judged: Mapping[ModelName, Mapping[str, Judgement]],
    most: int,
) -> Iterator[EvalRecord]:
    groups: list[list[EvalRecord]] = [[], [], [], []]
    for record in records:
        scores = [times_right(of[record.id]) for of in judged.values()]
        new, old = scores[-1], scores[-2] if len(scores) > 1 else scores[-1]
        groups[0 if new > old else 1 if new < old else 2 if new == 2 else 3].append(record)
    # The widest gaps first: right in both orders against wrong in both.
    for group in groups[:2]:
        group.sort(key=lambda r: -_gap(r, judged))
    shown = 0
    while any(groups) and shown < most:
        for group in groups:
            if group and shown < most:
                shown += 1
                yield group.pop(0)


def _gap(record: EvalRecord, judged: Mapping[ModelName, Mapping[str, Judgement]]) -> int:
    old, new = [times_right(of[record.id]) for of in judged.values()][-2:]
    return abs(new - old)


def _opinion(
    name: ModelName, judgement: Judgement, record: EvalRecord, weights: Mapping[str, float]
) -> Opinion:
    return Opinion(
        name,
        judgement["first"],
        judgement["second"],
        times_right(judgement),
        total_reward(judgement["rewards"], weights),
    )


def _headline(opinions: Sequence[Opinion]) -> str:
    """Say in words how the last two models did; a model right in one order only is half right."""
    words = {0: "wrong", 1: "right in one order only", 2: "right"}
    told = [(TITLES[o.model], words[o.right]) for o in opinions[::-1][:2]]
    if len(told) == 2 and told[0][1] == told[1][1]:
        return f"{told[0][0]} and {told[1][0]} {told[0][1]}"
    return ", ".join(f"{name} {word}" for name, word in told)
