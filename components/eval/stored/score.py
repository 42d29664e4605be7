"""Scoring predictions from files: the report of an evaluation without a model, GPU or torch."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.eval.grading import grade
from components.eval.records import TestRecord, as_test_record
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import Report, build_report
from components.eval.stored.predictions import Prediction, read_predictions
from components.eval.tasks import TASKS
from omnistage.errors import InputError
from omnistage.files import counted, read_jsonl, write_atomic, write_json, write_jsonl
from omnistage.records.record import MEDIA

NO_PREDICTION = "the file has no prediction for this record"


def score_predictions(
    files: Sequence[Path],
    out: Path,
    *,
    records: Path | None = None,
    task: str | None = None,
    strict: bool = False,
    protocols: Sequence[str] = (),
) -> Report:
    """Grade the predictions of one or more models on the same records and write the report.

    Args:
        files: One file a model, in the order of comparison; see
            :mod:`components.eval.stored.predictions`.
        out: Folder for ``report.html``, ``report.json``, ``report.md`` and ``judgements/``.
        records: Canonical records, whose ids the predictions name; without them the gold answers
            are those in the first file.
        task: Of records that do not say.
        strict: Whether an answer must have the format that omnistage's prompts ask for.
        protocols: Names of further protocols to score the same predictions under.

    Raises:
        InputError: If a file cannot be read or predicts none of the records.
    """
    with _no_garbage_collection():
        return _scored(files, out, records, task, strict, protocols)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Look for no cycles meanwhile: there are none among rows, and looking takes a quarter."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _scored(
    files: Sequence[Path],
    out: Path,
    records: Path | None,
    task: str | None,
    strict: bool,
    protocols: Sequence[str],
) -> Report:
    predicted = {name: read_predictions(path) for name, path in _names(files).items()}
    tested = _read(records) if records else _from_files(predicted, task)
    results = []
    for name, predictions in predicted.items():
        by_id = _by_id(predictions, tested)
        if not any(record.id in by_id for record in tested):
            raise InputError(f"{name}: predicts none of the {counted(len(tested), 'record')}")
        graded = grade(tested, _answers(tested, by_id), strict=strict)
        rows = [g.row(r) for g, r in zip(graded, tested, strict=True)]
        write_jsonl(out / "judgements" / f"{name}.jsonl", rows)
        results.append(ModelResult(name, graded))
    data = ReportData(
        "predictions", results, tested, {}, protocols=protocols, notes=_in_one_order(results)
    )
    report = build_report(data)
    write_atomic(out / "report.html", report.html)
    write_atomic(out / "report.md", report.markdown)
    write_json(out / "report.json", report.json)
    return report


def _by_id(
    predictions: Sequence[Prediction], records: Sequence[TestRecord]
) -> dict[str, Prediction]:
    """Return the predictions by record.

    Suites that number the rows of a set (``doc_id``, ``index``) mean its records in their order.
    """
    by_id = {p.id: p for p in predictions}
    if any(r.id in by_id for r in records):
        return by_id
    numbers = [int(p.id) if p.id.isdecimal() else -1 for p in predictions]
    if not all(0 <= n < len(records) for n in numbers):
        return by_id
    return {records[n].id: p for n, p in zip(numbers, predictions, strict=True)}


def _in_one_order(models: Sequence[ModelResult]) -> list[str]:
    """Return a note on pairs whose second order no file answers."""
    half = {
        g.id
        for model in models
        for g in model.graded
        if len(g.answers) == 2
        and g.answers[0].error is None
        and g.answers[1].error == NO_PREDICTION
    }
    told = f"{counted(len(half), 'pair')} answered in one order only; the other counts as wrong."
    return [told] if half else []


def _names(files: Sequence[Path]) -> dict[str, Path]:
    """Return each file under a short name that tells it from the others."""
    stems = [path.stem for path in files]
    if len(set(stems)) < len(stems):
        stems = [f"{path.parent.name}-{path.stem}" for path in files]
    if len(set(stems)) < len(stems):
        raise InputError("two of the files have the same name and folder name; rename one")
    return dict(zip(stems, files, strict=True))


def _read(path: Path) -> list[TestRecord]:
    found = []
    for number, row in enumerate(read_jsonl(path), 1):
        if row.get("task") not in TASKS:
            raise InputError(f"{path}:{number}: task {row.get('task')!r} is none of {list(TASKS)}")
        media = {kind: row[kind] for kind in MEDIA if row.get(kind)}
        there = {kind: [_found(path.parent, p) for p in paths] for kind, paths in media.items()}
        found.append(as_test_record({**row, **there}, TASKS[row["task"]], media=media))
    if not found:
        raise InputError(f"{path}: no records")
    return found


def _found(folder: Path, path: str) -> str:
    """Return a medium's path below the folder of the records where it lies there, to be shown."""
    return str(folder / path) if (folder / path).is_file() else path


def _from_files(
    predicted: Mapping[str, Sequence[Prediction]], task: str | None
) -> list[TestRecord]:
    """Make records of what the first file says of them."""
    name, predictions = next(iter(predicted.items()))
    found = []
    for p in predictions:
        kind = task or p.task
        if kind is None:
            raise InputError(f"{name}: the rows do not say their task; give --task")
        if kind == "judge":
            raise InputError(f"{name}: verdicts are graded against their pairs; give --records")
        if p.gold is None:
            raise InputError(
                f"{name}: record {p.id!r} has no gold answer in the file; give --records"
            )
        row: dict[str, Any] = {
            "id": p.id,
            "source": name,
            "task": kind,
            "messages": [{"role": "user", "content": p.question or f"Record {p.id}"}],
            "solution": p.gold,
            "options": list(p.options),
        }
        found.append(as_test_record(row, TASKS[kind]))
    return found


def _answers(
    records: Sequence[TestRecord], predictions: Mapping[str, Prediction]
) -> dict[str, dict[str, str]]:
    answers: dict[str, dict[str, str]] = {}
    for record in records:
        found = predictions.get(record.id)
        texts, errors = (found.texts, found.errors) if found else ((), ())
        for number, name in enumerate(record.prompt_ids):
            error = errors[number] if number < len(errors) else None
            if error or number >= len(texts):
                answers[name] = {"error": error or NO_PREDICTION}
            else:
                answers[name] = {"text": texts[number]}
    return answers
