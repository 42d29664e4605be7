"""What a protocol is, and scoring stored completions under one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from components.eval.metrics.bootstrap import Ratio, mean_of
from components.eval.records import TestRecord
from components.eval.tasks.task import Record

Reader = Callable[[Record, str, int], str | None]
Invalid = Literal["wrong", "chance", "first"]
Sound = Literal["in clips", "apart", "none"]

INVALID_TITLES: Mapping[str, str] = {
    "wrong": "wrong",
    "chance": "by chance",
    "first": "as the first answer",
}
"""What an answer counts that cannot be read, for the report."""


@dataclass(frozen=True)
class Protocol:
    """How a benchmark is asked, read and counted.

    Attributes:
        name: As settings and the command line call it.
        title: For people.
        source: Where the convention stands.
        tasks: Tasks that it grades; empty for all.
        system: System turn; None for none.
        template: What is asked, with ``{question}`` and, of choices, ``{options}``. Of a pair it
            stands before the two answers. A user who wants another suite's wording gives it.
        frames: Frames of a clip, in words.
        sound: Whether the sound of a clip is heard in the clip, as an item apart, or not at all.
        decoding: In words.
        read: What a completion says, from the record, the text and the number of its prompt, in
            the record's own names; None where it cannot be read. None for the task's own reader.
        score: What an answer is worth, 0 to 1, from the gold answer and what is said; None for the
            task's own scorer.
        invalid: What an answer counts that cannot be read; ``chance`` is the expected value.
        orders: Prompts of a pair that count: 2 for both orders, 1 for the order as it stands.
        average: ``micro`` over records, or ``macro`` over groups: the second part of ``source``.
    """

    name: str
    title: str
    source: str
    tasks: frozenset[str] = frozenset()
    system: str | None = None
    template: str = "{question}"
    frames: str = "as set in eval.media"
    sound: Sound = "in clips"
    decoding: str = "greedy"
    read: Reader | None = None
    score: Callable[[str, str], float] | None = None
    invalid: Invalid = "wrong"
    orders: int = 2
    average: Literal["micro", "macro"] = "micro"

    def fits(self, task: str) -> bool:
        """Whether it grades a task."""
        return not self.tasks or task in self.tasks


OMNISTAGE = Protocol(
    name="omnistage",
    title="omnistage",
    source="this project: the readers and scorers of the rewards, pairs in both orders",
    system=None,
)


@dataclass(frozen=True, slots=True)
class Scored:
    """A record under a protocol.

    Attributes:
        score: 0 to 1.
        valid: Share of its answers that could be read.
    """

    score: float
    valid: float


def score_record(protocol: Protocol, record: TestRecord, texts: Sequence[str | None]) -> Scored:
    """Score the completions of a record under a protocol.

    Args:
        protocol: The protocol; it must fit the record's task.
        record: The record. One with an error is wrong under every protocol.
        texts: The completion of each prompt; None where there is none, which is wrong.
    """
    if record.error is not None:
        return Scored(0.0, 0.0)
    counted = list(texts)[: protocol.orders]
    scores, valid = [], 0
    for order, text in enumerate(counted):
        if text is None:
            scores.append(0.0)
            continue
        said = (protocol.read or _own_reader(record))(record.row, text, order)
        valid += said is not None
        scores.append(
            _invalid(protocol, record) if said is None else _score(protocol, record, said)
        )
    return Scored(sum(scores) / len(scores), valid / len(scores))


def _own_reader(record: TestRecord) -> Reader:
    return lambda row, text, order: record.task.read(row, text, order, False)


def _score(protocol: Protocol, record: TestRecord, said: str) -> float:
    return (protocol.score or record.task.score)(record.gold, said)


def _invalid(protocol: Protocol, record: TestRecord) -> float:
    if protocol.invalid == "chance":
        choices = 2 if record.task.name == "judge" else len(record.row.get("options") or ())
        return 1 / choices if choices else 0.0
    if protocol.invalid == "first":
        return _score(protocol, record, "A")
    return 0.0


def averaged(protocol: Protocol, records: Sequence[TestRecord], scores: Sequence[float]) -> Ratio:
    """Return the protocol's figure: the mean over records, or the mean of the groups' means."""
    if protocol.average == "micro":
        return mean_of(scores)
    names = [group_of(record.row) for record in records]
    groups = np.array(sorted(set(names)))
    total = (np.array(names)[:, None] == groups).astype(np.float64)
    return Ratio(total * np.array(scores)[:, None], total)


def group_of(record: Record) -> str:
    """Return the group of a benchmark's record: what stands after ``/`` in its source."""
    return str(record.get("source", "")).partition("/")[2]
