"""Naming the emotion; synonyms of a label count as it."""

from collections.abc import Mapping, Sequence

from components.eval.metrics.bootstrap import Ratio
from components.eval.metrics.classification import accuracy, unweighted_average_recall
from components.eval.metrics.emotion import normalize_label
from components.eval.tasks.task import Record, Said, Task, Ungradable, answer_text, gold_text


def _gold(record: Record) -> str:
    found = normalize_label(gold_text(record))
    if found is None:
        raise Ungradable("the record has no gold label")
    return found


def _read(record: Record, text: str, order: int, strict: bool) -> str | None:
    return normalize_label(answer_text(text, strict))


def _metrics(golds: Sequence[str], said: Sequence[Said]) -> Mapping[str, Ratio]:
    answers = [s[0] for s in said]
    return {"war": accuracy(golds, answers), "uar": unweighted_average_recall(golds, answers)}


TASK = Task(
    name="emotion",
    title="Emotion recognition",
    about="WAR is recall averaged by support, which is accuracy; UAR is the plain mean of the "
    "recalls of the gold classes. Synonyms of a label count as it.",
    headline="war",
    gold=_gold,
    read=_read,
    score=lambda gold, said: float(gold == said),
    metrics=_metrics,
    labels=True,
)
