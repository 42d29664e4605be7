"""``omnistage eval``: score predictions from files."""

import argparse
from pathlib import Path
from typing import Any

from omnistage.cli.options import add_command

TASKS = (
    *("judge", "choice", "multi_choice", "yes_no", "emotion", "math", "numeric", "regression"),
    *("ocr", "rec", "free_form"),
)
"""What :mod:`components.eval.tasks` grades; a test holds the two together."""


def add_eval_command(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "eval", _eval, "score predictions made anywhere, and write the report"
    )
    command.add_argument(
        "--predictions",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE",
        help="one file a model: of omnistage, ms-swift, lmms-eval, VLMEvalKit or EvalScope",
    )
    command.add_argument(
        "--records", type=Path, help="canonical records, such as test.jsonl, with the gold answers"
    )
    command.add_argument("--task", choices=TASKS, help="task of rows that do not say it")
    command.add_argument(
        "--strict",
        action="store_true",
        help="count only answers in <answer> tags, and only whole verdicts",
    )
    command.add_argument("--out", type=Path, required=True, help="folder to write the report to")


def _eval(options: argparse.Namespace) -> None:
    from pipelines.predictions import score

    files, records = options.predictions, options.records
    print(score(files, options.out, records, options.task, options.strict))
    print(options.out / "report.html")
