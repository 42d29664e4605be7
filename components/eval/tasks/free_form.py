"""Answers in words, graded by overlap with the gold answer."""

from collections.abc import Mapping, Sequence

from components.eval.metrics.bootstrap import Ratio, mean_of
from components.eval.metrics.generation import overlap
from components.eval.tasks.task import Record, Said, Task, Ungradable, answer_text, gold_text
from omnistage.rewards.omnirl import omnirl_accuracy
from omnistage.rewards.overlap import words


def _gold(record: Record) -> str:
    gold = gold_text(record)
    if not words(gold):
        raise Ungradable("the gold answer has no words")
    return gold


def _score(gold: str, said: str) -> float:
    (value,) = omnirl_accuracy([f"<answer>{said}</answer>"], solution=[f"<answer>{gold}</answer>"])
    return value or 0.0


def _metrics(golds: Sequence[str], said: Sequence[Said]) -> Mapping[str, Ratio]:
    answers = [s[0] for s in said]
    scores = [_score(g, a) if a else 0.0 for g, a in zip(golds, answers, strict=True)]
    return {"overlap": mean_of(scores), **overlap(golds, answers)}


TASK = Task(
    name="free_form",
    title="Free-form answers",
    about="Overlap is the mean of BLEU-2, ROUGE-1 F and METEOR against the gold answer (OmniRL).",
    headline="overlap",
    gold=_gold,
    read=lambda record, text, order, strict: answer_text(text, strict),
    score=_score,
    metrics=_metrics,
)
