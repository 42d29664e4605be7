"""``omnistage eval``, ``compare`` and ``benchmark``: evaluations without a model."""

import argparse
from pathlib import Path
from typing import Any

from omnistage.cli.options import add_command, home_argument
from omnistage.errors import InputError

TASKS = (
    *("judge", "choice", "multi_choice", "yes_no", "emotion", "math", "numeric", "regression"),
    *("ocr", "rec", "free_form"),
)
"""What :mod:`components.eval.tasks` grades; a test holds the two together."""


PROTOCOLS = (
    *("omnistage", "lmms_vl_rewardbench", "lmms_mm_rewardbench", "vlmevalkit_mm_rewardbench"),
    *("vlmevalkit_choice", "videomme_letter", "mmau", "lmms_rec", "r1v_geoqa"),
)
"""What :mod:`components.eval.protocols` has; a test holds the two together."""


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
        "--protocol",
        action="append",
        default=[],
        choices=PROTOCOLS,
        help="score them under this protocol too; may be given several times",
    )
    command.add_argument(
        "--strict",
        action="store_true",
        help="count only answers in <answer> tags, and only whole verdicts",
    )
    command.add_argument(
        "--judge", metavar="MODEL", help="an LLM that scores answers of free_form too"
    )
    command.add_argument(
        "--judge-url", metavar="URL", help="where it is served (default: OMNISTAGE_JUDGE_URL)"
    )
    command.add_argument("--out", type=Path, required=True, help="folder to write the report to")
    home_argument(command)


def add_benchmark_command(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "benchmark", _benchmark, "make records of a benchmark's own files"
    )
    command.add_argument("name", nargs="?", help="the benchmark; without one, all are listed")
    command.add_argument("folder", nargs="?", type=Path, help="its files, archives unpacked")
    command.add_argument("--out", type=Path, help="folder for records.jsonl and the media")
    command.add_argument(
        "--protocol", choices=PROTOCOLS, help="how it is asked (default: its usual protocol)"
    )
    command.add_argument(
        "--template", type=Path, help="text file to ask with, with {question} and {options}"
    )
    command.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="the file's own name of a column, such as label=emotion; may be given several times",
    )


def add_ask_command(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "ask", _ask, "have a served model answer records, for eval --predictions"
    )
    command.add_argument("--url", required=True, help="OpenAI-compatible, http://host:8000/v1")
    command.add_argument("--model", required=True, help="name of the model that it serves")
    command.add_argument("--records", type=Path, required=True, help="canonical records")
    command.add_argument(
        "--media-root", type=Path, help="folder of their media (default: that of the records)"
    )
    command.add_argument("--out", type=Path, required=True, help="file of predictions to write")
    command.add_argument("--max-tokens", type=int, default=2048, help="most tokens of an answer")
    command.add_argument("--concurrency", type=int, default=16, help="requests at a time")
    command.add_argument(
        "--samples", type=int, default=0, help="sampled answers to each beside the greedy one"
    )
    command.add_argument("--temperature", type=float, default=1.0, help="of the samples")
    command.add_argument("--top-p", type=float, default=1.0, help="of the samples")
    command.add_argument("--seed", type=int, default=42, help="of the samples")
    command.add_argument(
        "--rotate-options",
        action="store_true",
        help="ask records of choice again with their options in every other rotation",
    )


def _ask(options: argparse.Namespace) -> None:
    from pipelines.predictions import ask

    limits = {"max_tokens": options.max_tokens, "concurrency": options.concurrency}
    if min(limits.values()) < 1:
        raise InputError("--max-tokens and --concurrency: at least 1 is needed")
    if options.samples < 0 or options.temperature <= 0 or not 0 < options.top_p <= 1:
        raise InputError("--samples is 0 or more, --temperature over 0, --top-p over 0 up to 1")
    names = ("samples", "temperature", "top_p", "seed", "rotate_options")
    variants = {name: getattr(options, name) for name in names}
    root = options.media_root or options.records.parent
    print(ask(options.url, options.model, options.records, root, options.out, limits, variants))


def add_compare_command(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "compare", _compare, "one report across evaluations of runs, recipes and seeds"
    )
    command.add_argument(
        "evaluation", nargs="+", help="a run, a folder with report.json, or a file of judgements"
    )
    command.add_argument("--out", type=Path, required=True, help="folder to write the report to")
    home_argument(command)


def _compare(options: argparse.Namespace) -> None:
    from pipelines.predictions import compare

    print(compare(options.evaluation, options.home, options.out))
    print(options.out / "report.html")


def _benchmark(options: argparse.Namespace) -> None:
    from pipelines.predictions import benchmark_list, write_benchmark

    if options.name is None:
        print(benchmark_list())
        return
    if options.folder is None or options.out is None:
        raise InputError(f"benchmark {options.name}: give the folder of its files, and --out")
    columns = dict(text.partition("=")[::2] for text in options.column)
    print(
        write_benchmark(
            options.name, options.folder, options.out, options.protocol, options.template, columns
        )
    )


def _eval(options: argparse.Namespace) -> None:
    from pipelines.predictions import score

    if options.judge_url and not options.judge:
        raise InputError("--judge-url: name the model that judges with --judge")
    judge = {"url": options.judge_url or "", "model": options.judge} if options.judge else None
    print(
        score(
            options.predictions,
            options.out,
            options.records,
            options.task,
            options.strict,
            options.protocol,
            judge,
            (options.home / "store").absolute().as_uri(),
        )
    )
    print(options.out / "report.html")
