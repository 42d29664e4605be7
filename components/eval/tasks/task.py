"""What a task is to the evaluation: prompts, reading, grading, metrics, constant baselines.

The readers and scorers are those of the rewards (:mod:`omnistage.rewards`), so that a model is
evaluated by what it was trained for. Metrics are functions of their own in
:mod:`components.eval.metrics`.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.eval.metrics.bootstrap import Ratio, mean_of
from omnistage.records.plain_text import unescape_tags
from omnistage.records.record import TAGS, prompt_of
from omnistage.rewards.columns import gold_answer, tagged

Record = Mapping[str, Any]
"""A canonical record."""
Said = tuple[str | None, ...]
"""What a model says of a record, one for each of its prompts, in the record's own names; None
where the answer cannot be read."""

_MOST_CONSTANTS = 6


class Ungradable(ValueError):  # noqa: N818 - the record's fault, told in the report
    """The record's gold answer cannot be read, so no answer to it can be graded."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question to a model.

    Attributes:
        messages: Turns without the answer.
        solution: The right answer to this very prompt, as the rewards read it.
        order: By media list the places of the record's items, where it is not the record's order.
    """

    messages: list[dict[str, Any]]
    solution: str
    order: Mapping[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shown:
    """A record as people read it.

    Attributes:
        question: The question about the medium.
        candidates: Name and text of each answer that one may choose from.
        gold: The right answer.
    """

    question: str
    candidates: Sequence[tuple[str, str]]
    gold: str


def one_prompt(record: Record) -> list[Prompt]:
    """Return the record's own prompt."""
    return [Prompt(prompt_of(dict(record)), record["solution"])]


def gold_text(record: Record) -> str:
    """Return the gold answer: the ``<answer>`` in the solution, or all of it.

    Raises:
        Ungradable: If there is none.
    """
    gold = gold_answer(record["solution"])
    if gold is None:
        raise Ungradable("the record has no gold answer")
    return gold


def answer_text(text: str, strict: bool) -> str | None:
    """Return the ``<answer>`` of a completion; all of it where it has none and may do without."""
    inner = tagged(text, "answer")
    return text.strip() if inner is None and not strict else inner


def show(record: Record) -> Shown:
    """Return the last user turn without media tags, the options and the gold answer."""
    text = next(m["content"] for m in reversed(record["messages"]) if m["role"] == "user")
    if "<" in text:
        for tag in TAGS.values():
            text = text.replace(tag, "")
        text = unescape_tags(text)
    gold = gold_answer(record["solution"]) or ""
    options = record.get("options")
    if not options:
        return Shown(text.strip(), (), gold)
    found = [re.fullmatch(r"\(?([A-Z])[).:]\s*(.+)", str(o), re.DOTALL) for o in options]
    candidates = [
        (m[1], m[2]) if m else (chr(ord("A") + i), str(o))
        for i, (m, o) in enumerate(zip(found, options, strict=True))
    ]
    return Shown(text.strip(), candidates, gold)


def constant_labels(labels: Sequence[str]) -> dict[str, list[Said]]:
    """Return, for each of the most frequent labels, the baseline that always answers it."""
    frequent = [label for label, _ in Counter(labels).most_common(_MOST_CONSTANTS)]
    return {f"always {label}": [(label,)] * len(labels) for label in frequent}


@dataclass(frozen=True)
class Task:
    """How records of one task are asked, graded and counted.

    Attributes:
        name: As in a record's ``task``.
        title: For people.
        about: What the headline metric says, in a sentence for the report's reader.
        headline: Name of the metric that the task is known by, 0 to 1.
        gold: The gold answer in the form of :data:`Said`; raises :class:`Ungradable`.
        read: What a completion says, from the record, the text, the number of its prompt and
            whether it must have the format asked for; None if it cannot be read.
        score: What one answer is worth, 0 to 1, from gold and said.
        metrics: The metrics by name, from golds and what a model says; by default the mean score.
        prompts: The prompts of a record.
        constants: Baselines that ignore record and medium, from the golds of all records.
        baselines: Further baselines from the records themselves, such as the longer answer.
        show: A record for the report.
        labels: Whether golds are classes, for a confusion matrix and flipped labels.
        boxes: Whether golds and answers are boxes in pixels of the image, to draw on it.
    """

    name: str
    title: str
    about: str
    headline: str
    gold: Callable[[Record], str]
    read: Callable[[Record, str, int, bool], str | None]
    score: Callable[[str, str], float]
    metrics: Callable[[Sequence[str], Sequence[Said]], Mapping[str, Ratio]] | None = None
    prompts: Callable[[Record], list[Prompt]] = one_prompt
    constants: Callable[[Sequence[str]], Mapping[str, list[Said]]] = field(default=constant_labels)
    baselines: Callable[[Sequence[Record]], Mapping[str, list[Said]]] | None = None
    show: Callable[[Record], Shown] = show
    labels: bool = False
    boxes: bool = False

    def record_score(self, gold: str, said: Said) -> float:
        """Return the mean score of a record's answers; one that cannot be read is worth 0."""
        if len(said) == 1:
            return 0.0 if said[0] is None else self.score(gold, said[0])
        return sum(self.score(gold, s) for s in said if s is not None) / len(said)

    def measure(self, golds: Sequence[str], said: Sequence[Said]) -> dict[str, Ratio]:
        """Return every metric by name, the headline first."""
        if self.metrics:
            return dict(self.metrics(golds, said))
        scores: dict[tuple[str, Said], float] = {}  # many records have the same gold and answer
        for pair in set(zip(golds, said, strict=True)):
            scores[pair] = self.record_score(*pair)
        return {self.headline: mean_of([scores[pair] for pair in zip(golds, said, strict=True)])}
