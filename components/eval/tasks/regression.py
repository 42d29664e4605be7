"""Numbers that should come near."""

from collections.abc import Mapping, Sequence
from statistics import median

from components.eval.metrics.generation import relative_accuracy
from components.eval.tasks.numeric import gold_number, read_number
from components.eval.tasks.task import Said, Task
from omnistage.rewards.answers import number


def _median(golds: Sequence[str]) -> Mapping[str, list[Said]]:
    middle = median(float(value) for g in golds if (value := number(g)) is not None)
    return {f"always {middle:g}": [(repr(middle),)] * len(golds)}


TASK = Task(
    name="regression",
    title="Regression",
    about="Mean relative accuracy: the share of thresholds .50, .55 … .95 that 1 minus the "
    "relative error exceeds.",
    headline="mra",
    gold=gold_number,
    read=read_number,
    score=lambda gold, said: relative_accuracy(gold, said) or 0.0,
    constants=_median,
)
