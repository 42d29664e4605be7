"""Several choices of several."""

from collections.abc import Mapping, Sequence

from components.eval.metrics.bootstrap import Ratio
from components.eval.metrics.classification import accuracy, multi_choice_f1
from components.eval.tasks.task import Record, Said, Task, Ungradable, answer_text, gold_text
from omnistage.rewards.answers import choices, set_f1


def _set(answer: str) -> str | None:
    return ",".join(sorted(choices(answer))) or None


def _gold(record: Record) -> str:
    found = _set(gold_text(record))
    if found is None:
        raise Ungradable("the gold answer names no choice")
    return found


def _read(record: Record, text: str, order: int, strict: bool) -> str | None:
    answer = answer_text(text, strict)
    return _set(answer) if answer else None


def _metrics(golds: Sequence[str], said: Sequence[Said]) -> Mapping[str, Ratio]:
    answers = [s[0] for s in said]
    return {"f1": multi_choice_f1(golds, answers), "exact": accuracy(golds, answers)}


TASK = Task(
    name="multi_choice",
    title="Several choices",
    about="F1 of the set of choices, the mean over records; exact is the share of equal sets.",
    headline="f1",
    gold=_gold,
    read=_read,
    score=lambda gold, said: set_f1(choices(gold), choices(said)),
    metrics=_metrics,
)
