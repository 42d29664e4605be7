"""Grading a model's answers to the test records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.eval.records import TestRecord
from components.eval.tasks.task import Said
from omnistage.errors import StageFailedError
from omnistage.rewards import REWARDS

ORDERS = ("first", "second")
"""What a record's answers are called in ``judgements/<model>.jsonl``; all tasks but judging ask
once."""
_COLUMNS = ("options", "problem_type", "cmp_gt", "image_size", "shown_size")


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one prompt.

    Attributes:
        text: What the model wrote, unchanged.
        said: What it says in the record's own names; None when it cannot be read.
        error: Why there is no answer, such as a medium that cannot be read.
    """

    text: str
    said: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Graded:
    """A model's answers to one record.

    Attributes:
        id: The record's id.
        answers: One for each prompt.
        score: Mean score of the answers, 0 to 1.
        rewards: Each reward, the mean over the answers; None where it does not apply.
    """

    id: str
    answers: tuple[Answer, ...]
    score: float
    rewards: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def said(self) -> Said:
        """What each answer says."""
        return tuple(answer.said for answer in self.answers)

    @property
    def error(self) -> str | None:
        """Why the record has no answer, if it has none."""
        return next((a.error for a in self.answers if a.error), None)

    def row(self, record: TestRecord) -> dict[str, Any]:
        """Return the line of ``judgements/<model>.jsonl``."""
        answers = {
            order: {"text": a.text, "valid": a.said is not None, "said": a.said, "error": a.error}
            for order, a in zip(ORDERS, self.answers, strict=False)
        }
        return {
            "id": self.id,
            "source": record.row.get("source", ""),
            "task": record.task.name,
            "modality": record.modality,
            "media": record.media,
            "question": record.task.show(record.row).question if record.prompts else "",
            "gold": record.gold,
            "score": self.score,
            **answers,
            "rewards": self.rewards,
        }


def grade(
    records: Sequence[TestRecord],
    answers: Mapping[str, Mapping[str, Any]],
    rewards: Sequence[str] = (),
    *,
    strict: bool = True,
) -> list[Graded]:
    """Grade a model's answers.

    Args:
        records: The test records.
        answers: ``text``, or ``error`` with the reason why there is none, by prompt id.
        rewards: Names of the rewards.
        strict: Whether an answer must have the format that was asked for.

    Raises:
        StageFailedError: If an answer is missing.
    """
    asked = [r for r in records if r.error is None]
    missing = [i for r in asked for i in r.prompt_ids if i not in answers]
    if missing:
        raise StageFailedError(f"{len(missing)} answers are missing, the first of {missing[0]}")
    paid = _rewards(asked, answers, rewards)
    return [_graded(record, answers, paid.get(record.id, {}), strict) for record in records]


def _graded(
    record: TestRecord,
    answers: Mapping[str, Mapping[str, Any]],
    rewards: Mapping[str, float | None],
    strict: bool,
) -> Graded:
    if record.error is not None:
        failed = Answer("", error=record.error)
        return Graded(record.id, (failed,) * max(1, len(record.prompts)), 0.0)
    read = tuple(
        _answer(record, number, answers[name], strict)
        for number, name in enumerate(record.prompt_ids)
    )
    score = record.task.record_score(record.gold, tuple(a.said for a in read))
    return Graded(record.id, read, score, rewards)


def _answer(record: TestRecord, number: int, row: Mapping[str, Any], strict: bool) -> Answer:
    text = row.get("text") or ""
    if row.get("error"):
        return Answer(text, error=row["error"])
    return Answer(text, record.task.read(record.row, text, number, strict))


def _rewards(
    records: Sequence[TestRecord], answers: Mapping[str, Mapping[str, Any]], names: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Return each record's rewards, the mean over its prompts, each against its own solution."""
    if not names:
        return {}
    asked = [
        (record, prompt, answers[name].get("text") or "")
        for record in records
        for name, prompt in zip(record.prompt_ids, record.prompts, strict=True)
    ]
    columns: dict[str, list[Any]] = {
        "solution": [prompt.solution for _, prompt, _ in asked],
        "messages": [prompt.messages for _, prompt, _ in asked],
        **{name: [record.row.get(name) for record, _, _ in asked] for name in _COLUMNS},
    }
    found: dict[str, dict[str, float | None]] = {record.id: {} for record in records}
    for name in names:
        values = REWARDS[name]([text for *_, text in asked], **columns) if asked else []
        by_record: dict[str, list[float | None]] = {}
        for (record, *_), value in zip(asked, values, strict=True):
            by_record.setdefault(record.id, []).append(value)
        for record_id, paid in by_record.items():
            known = [value for value in paid if value is not None]
            whole = len(known) == len(paid)
            found[record_id][name] = sum(known) / len(known) if whole and known else None
    return found
