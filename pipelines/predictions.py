"""Predictions that were made elsewhere, and benchmarks, for the command line."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.eval.benchmarks import BENCHMARKS
from components.eval.benchmarks.records import write_records
from components.eval.endpoint import Endpoint, Variants, ask_endpoint
from components.eval.protocols import PROTOCOLS
from components.eval.stored.compare import compare_evaluations
from components.eval.stored.score import score_predictions
from components.eval.tasks import TASKS
from omnistage.errors import InputError
from omnistage.files import counted
from omnistage.recipe.errors import nearest
from omnistage.rewards.served.client import JudgeSettings
from omnistage.runs.folder import find_run, read_run
from omnistage.store.uris import uri_path

__all__ = ["TASK_NAMES", "ask", "benchmark_list", "compare", "score", "write_benchmark"]

TASK_NAMES = tuple(TASKS)
ENDPOINT_KEY = "OMNISTAGE_ENDPOINT_API_KEY"
"""Environment variable of the key that is sent to an endpoint."""


def score(
    files: Sequence[Path],
    out: Path,
    records: Path | None,
    task: str | None,
    strict: bool,
    protocols: Sequence[str] = (),
    judge: Mapping[str, str] | None = None,
    store: str = "",
) -> str:
    """Score prediction files, write the report to a folder, and return the verdict.

    Args:
        files: One a model.
        out: Folder for the report.
        records: Canonical records with the gold answers.
        task: Of rows that do not say it.
        strict: Whether an answer must have the format that was asked for.
        protocols: Further protocols to score under.
        judge: ``url`` and ``model`` of an LLM that scores answers of ``free_form``.
        store: URI of the store that keeps what the judge said.

    Raises:
        InputError: If a file cannot be read or predicts none of the records, or the judge refuses.
        TransientError: If the judge does not answer.
    """
    report = score_predictions(
        files,
        out,
        records=records,
        task=task,
        strict=strict,
        protocols=protocols,
        judge=JudgeSettings.model_validate(judge) if judge else None,
        store=store,
    )
    return report.json["summary"]


def ask(
    url: str,
    model: str,
    records: Path,
    root: Path,
    out: Path,
    limits: Mapping[str, int],
    variants: Mapping[str, Any],
) -> str:
    """Have a served model answer records, and return what was written, as text.

    Args:
        url: Base address of the endpoint.
        model: Name of the model it serves.
        records: Canonical records.
        root: Folder that their media paths are relative to.
        out: File of predictions to write.
        limits: ``max_tokens`` of an answer, and ``concurrency``, the requests under way at a time.
        variants: Fields of :class:`components.eval.endpoint.Variants`.

    Raises:
        InputError: If key, model or address are wrong, or no record can be asked.
        TransientError: If the endpoint does not answer.
    """
    endpoint = Endpoint(
        url,
        model,
        os.environ.get(ENDPOINT_KEY, ""),
        limits["max_tokens"],
        JudgeSettings(concurrency=limits["concurrency"]),
    )

    def progress(done: int, total: int) -> None:
        print(f"{done:,} of {total:,} answers", flush=True)

    failed = ask_endpoint(endpoint, records, root, out, progress, Variants(**variants))
    errors = f"; {counted(failed, 'record')} without an answer, named there" if failed else ""
    return f"{out}: predictions of {model}{errors}"


def compare(names: Sequence[str], home: Path, out: Path) -> str:
    """Write one report across evaluations, and return the verdict.

    Args:
        names: Runs of ``home``, folders with ``report.json``, or files of judgements.
        home: omnistage's folder.
        out: Folder for the report.

    Raises:
        InputError: If one is not an evaluation, or they have no record in common.
    """
    places: dict[str, Path] = {}
    for name in names:
        found = _evaluations(name, home)
        if found.keys() & places.keys():
            raise InputError(f"{name}: given twice, or named like another")
        places |= found
    return compare_evaluations(places, out).json["summary"]


def _evaluations(name: str, home: Path) -> dict[str, Path]:
    """Return the folders of a run's evaluations, or the folder or file itself, by short names."""
    path = Path(name)
    if path.is_file():
        return {path.stem: path}
    if (path / "judgements").is_dir():
        return {path.resolve().name: path}
    run = read_run(find_run(home, name))
    uris = {s.name: s.uri for s in run.stages if s.uri and s.uri.startswith("file:")}
    folders = {stage: uri_path(uri) for stage, uri in uris.items()}
    found = {stage: f for stage, f in folders.items() if (f / "judgements").is_dir()}
    if not found:
        raise InputError(
            f"run {run.folder.name}: no evaluation of it is on this machine; give the folder of "
            "its EvalReport"
        )
    single = len(found) == 1
    return {run.folder.name if single else f"{run.folder.name}/{n}": f for n, f in found.items()}


def benchmark_list() -> str:
    """Return the benchmarks, what each needs, and its protocols, as text."""
    lines = []
    for benchmark in BENCHMARKS.values():
        remark = "" if benchmark.verified else ", layout by --column"
        protocols = ", ".join(benchmark.protocols)
        lines.append(f"{benchmark.name}: {benchmark.title}{remark}; protocols {protocols}")
        lines += [f"  {f.files}; {f.source}; {f.terms}" for f in benchmark.fetch]
    return "\n".join(lines)


def write_benchmark(
    name: str,
    folder: Path,
    out: Path,
    protocol: str | None,
    template: Path | None,
    columns: Mapping[str, str],
) -> str:
    """Write a benchmark's records and media, and return what was written, as text.

    Raises:
        InputError: If the benchmark is not known, or its files are not in its layout.
    """
    if name not in BENCHMARKS:
        hint = nearest(name, BENCHMARKS) or f"benchmarks are {', '.join(BENCHMARKS)}"
        raise InputError(f"benchmark {name}: no such benchmark; {hint}")
    benchmark = BENCHMARKS[name]
    asked = PROTOCOLS[protocol or benchmark.protocols[0]]
    if template:
        if not template.is_file():
            raise InputError(f"--template {template}: no such file")
        asked = replace(asked, template=template.read_text(encoding="utf-8"))
    written = write_records(benchmark, folder, out, asked, columns)
    lines = [
        f"{written.records}: {counted(written.count, 'record')}, asked as in {asked.title}; "
        f"decoding {asked.decoding}, sound {asked.sound}, frames {asked.frames}"
    ]
    if written.missing:
        lines.append(
            f"{counted(len(written.missing), 'media file')} not in {folder}, the first: "
            f"{written.missing[0]}; such a record counts as an error"
        )
    return "\n".join(lines)
