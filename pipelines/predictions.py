"""Scoring predictions that were made elsewhere, for the command line."""

from collections.abc import Sequence
from pathlib import Path

from components.eval.score import score_predictions
from components.eval.tasks import TASKS

__all__ = ["TASK_NAMES", "score"]

TASK_NAMES = tuple(TASKS)


def score(
    files: Sequence[Path], out: Path, records: Path | None, task: str | None, strict: bool
) -> str:
    """Score prediction files, write the report to a folder, and return the verdict.

    Raises:
        InputError: If a file cannot be read or predicts none of the records.
    """
    report = score_predictions(files, out, records=records, task=task, strict=strict)
    return report.json["summary"]
