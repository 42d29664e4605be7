"""Numbers that must be right to 2 decimals."""

from components.eval.tasks.task import Record, Task, Ungradable, answer_text, gold_text
from omnistage.rewards.answers import number, same_number


def gold_number(record: Record) -> str:
    """Return the gold answer, which holds one number.

    Raises:
        Ungradable: If it does not.
    """
    gold = gold_text(record)
    if number(gold) is None:
        raise Ungradable(f"the gold answer {gold!r} is not a number")
    return gold


def read_number(record: Record, text: str, order: int, strict: bool) -> str | None:
    """Return the answer, if it holds one number."""
    answer = answer_text(text, strict) or ""
    return None if number(answer) is None else answer


TASK = Task(
    name="numeric",
    title="Numbers",
    about="Accuracy is the share of numbers equal to the gold one to 2 decimals.",
    headline="accuracy",
    gold=gold_number,
    read=read_number,
    score=lambda gold, said: same_number(gold, said) or 0.0,
)
