"""One choice of several, named by its letter."""

from components.eval.tasks.task import Record, Task, answer_text, gold_text
from omnistage.rewards.answers import choice


def _read(record: Record, text: str, order: int, strict: bool) -> str | None:
    answer = answer_text(text, strict)
    return choice(answer) if answer else None


def _gold(record: Record) -> str:
    return choice(gold_text(record))


TASK = Task(
    name="choice",
    title="Multiple choice",
    about="Accuracy is the share of records answered with the right choice; an answer that cannot "
    "be read is wrong.",
    headline="accuracy",
    gold=_gold,
    read=_read,
    score=lambda gold, said: float(gold == said),
    labels=True,
)
