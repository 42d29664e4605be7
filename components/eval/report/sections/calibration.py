"""Calibration of judges: how often an answer is right by the gap between its two scores.

``calibration`` of a judging task in ``report.json`` has for each model ``bins`` of the gap with
``count`` and ``accuracy``, and ``auroc``, the chance that a right answer has a wider gap than a
wrong one.
"""

from collections.abc import Mapping, Sequence

from components.eval.grading import Graded
from components.eval.metrics.calibration import auroc, by_gap
from components.eval.records import TestRecord
from components.eval.report.figures import Figures
from omnistage.records.verdict import VerdictError, parse_verdict


def calibration(records: Sequence[TestRecord], graded: Mapping[str, Sequence[Graded]]) -> Figures:
    """Return the figures of a judging task, of the models whose answers have scores.

    Args:
        records: The task's records.
        graded: Each model's answers, in their order.
    """
    found: Figures = {}
    for name, answers in graded.items():
        gaps: list[int] = []
        right: list[bool] = []
        for record, g in zip(records, answers, strict=True):
            for answer in g.answers:
                gap = _gap(answer.text) if answer.said is not None else None
                if gap is not None:
                    gaps.append(gap)
                    right.append(answer.said == record.gold)
        if gaps:
            found[name] = {"bins": by_gap(gaps, right), "auroc": auroc(gaps, right)}
    return found


def _gap(text: str) -> int | None:
    try:
        verdict = parse_verdict(text)
    except VerdictError:
        return None
    return abs(verdict.score_a - verdict.score_b)
