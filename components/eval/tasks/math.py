"""Mathematics, checked by math-verify."""

from components.eval.tasks.task import Record, Task, Ungradable, answer_text, gold_text
from omnistage.rewards.lmm_r1 import lmm_math


def _gold(record: Record) -> str:
    gold = gold_text(record)
    if _score(gold, gold) != 1.0:
        raise Ungradable(f"the gold answer {gold!r} cannot be read as mathematics")
    return gold


def _read(record: Record, text: str, order: int, strict: bool) -> str | None:
    # The reward takes the whole completion where it has no <answer>.
    return answer_text(text, strict=False) or None


def _score(gold: str, said: str) -> float:
    (value,) = lmm_math([f"<answer>{said}</answer>"], solution=[f"<answer>{gold}</answer>"])
    return value or 0.0


TASK = Task(
    name="math",
    title="Mathematics",
    about="Accuracy is the share of answers that equal the gold one as mathematics (math-verify).",
    headline="accuracy",
    gold=_gold,
    read=_read,
    score=_score,
)
