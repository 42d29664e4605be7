"""The gate: what an evaluation must show, such as ``judge.accuracy: ">= sft + 0.01"``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omnistage.errors import InputError

METRICS: Mapping[str, tuple[str, ...]] = {
    "judge": ("accuracy", "consistency", "ties", "first_shown"),
    "choice": ("accuracy",),
    "multi_choice": ("f1", "exact"),
    "yes_no": ("accuracy",),
    "emotion": ("war", "uar"),
    "math": ("accuracy",),
    "numeric": ("accuracy",),
    "regression": ("mra",),
    "ocr": ("word_accuracy",),
    "rec": ("iou_50", "mean_iou"),
    "free_form": ("overlap", "bleu2", "rouge1", "meteor", "judged"),
}
"""What a task measures beside ``valid``; a test holds it to the tasks."""

_RULE = re.compile(
    r"(?P<sign>>=|>)\s*(?:(?P<number>\d*\.?\d+)|(?P<other>[a-z][a-z0-9_-]*)"
    r"(?:\s*\+\s*(?P<more>\d*\.?\d+))?)"
)


@dataclass(frozen=True)
class Rule:
    """A requirement on the last model that is evaluated.

    Attributes:
        task: Of the test records.
        metric: Name of the metric in ``report.json``.
        above: Whether the bound itself is too little.
        other: Model by its name, or ``constant`` for the best constant baseline, whose figure is
            the bound.
        more: Added to it; the bound itself without ``other``.
    """

    task: str
    metric: str
    above: bool
    other: str | None
    more: float


def read_rule(name: str, text: str) -> Rule:
    """Read ``task.metric`` and its requirement.

    Raises:
        ValueError: If it is none, with an example or the metrics that there are.
    """
    task, _, metric = name.partition(".")
    match = _RULE.fullmatch(text.strip())
    if task not in METRICS or not metric or match is None:
        raise ValueError(
            f"{name}: {text!r} is not a requirement such as judge.accuracy: '>= sft + 0.01', "
            "'> constant' or '>= 0.7'"
        )
    known = (*METRICS[task], "valid")
    if metric not in known:
        raise ValueError(f"{name}: {task} has no metric {metric!r}; it has {', '.join(known)}")
    more = match["number"] or match["more"] or "0"
    return Rule(task, metric, match["sign"] == ">", match["other"], float(more))


def check_gate(
    report: Mapping[str, Any], require: Mapping[str, str], where: str, step: str = "eval"
) -> None:
    """Check a report's figures against the requirements.

    Args:
        report: As in ``report.json``.
        require: Requirement by ``task.metric``.
        where: Where the report is, for the message.
        step: Name of the step, for the message.

    Raises:
        InputError: If one is not met, with the numbers.
    """
    failed = [said for n, text in require.items() if (said := _failure(report, n, text))]
    if failed:
        raise InputError(
            f"{step}.require is not met: {'; '.join(failed)}; the report is in {where}"
        )


def _failure(report: Mapping[str, Any], name: str, text: str) -> str | None:
    rule = read_rule(name, text)
    models = report["tasks"].get(rule.task, {}).get("models", {})
    if not models:
        return f"{name}: no test record is of task {rule.task}"
    *_, last = models
    value = _value(models[last], rule.metric)
    bound = rule.more
    if rule.other == "constant":
        bound += max(b["value"] for b in report["tasks"][rule.task]["baselines"].values())
    elif rule.other:
        other = _value(models.get(rule.other, {}), rule.metric)
        if other is None:
            return f"{name}: there is no such figure of {rule.other}"
        bound += other
    if value is None:
        return f"{name}: there is no such figure of {last}"
    if value > bound or (value == bound and not rule.above):
        return None
    return f"{name} of {last} is {value:.4f}, needs {text} ({bound:.4f})"


def _value(model: Mapping[str, Any], metric: str) -> float | None:
    return model.get("metrics", {}).get(metric, {}).get("value")
