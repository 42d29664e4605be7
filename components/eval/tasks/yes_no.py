"""Questions answered with yes or no."""

from components.eval.tasks.task import Record, Task, Ungradable, answer_text, gold_text
from omnistage.rewards.answers import yes_no


def _gold(record: Record) -> str:
    found = yes_no(gold_text(record))
    if found is None:
        raise Ungradable("the gold answer is neither yes nor no")
    return found


def _read(record: Record, text: str, order: int, strict: bool) -> str | None:
    return yes_no(answer_text(text, strict) or "")


TASK = Task(
    name="yes_no",
    title="Yes or no",
    about="Accuracy is the share of records answered rightly; an answer that is neither yes nor "
    "no is wrong.",
    headline="accuracy",
    gold=_gold,
    read=_read,
    score=lambda gold, said: float(gold == said),
    labels=True,
)
