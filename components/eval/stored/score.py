"""Scoring predictions from files: the report of an evaluation without a model, GPU or torch."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.eval.grading import Graded, grade
from components.eval.judged import judge_answers, judge_notes
from components.eval.records import TestRecord, as_test_record
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import Report, build_report
from components.eval.stored.answers import (
    NO_PREDICTION,
    Predicted,
    answers_of,
    by_record,
    graded_samples,
    said_in_rotations,
    sample_notes,
)
from components.eval.stored.predictions import read_predictions
from components.eval.tasks import TASKS
from components.eval.variants.samples import write_samples
from omnistage.errors import InputError
from omnistage.files import counted, read_jsonl, write_atomic, write_json, write_jsonl
from omnistage.records.record import MEDIA
from omnistage.rewards.served.client import JudgeSettings


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


@_no_garbage_collection()
def score_predictions(
    files: Sequence[Path],
    out: Path,
    *,
    records: Path | None = None,
    task: str | None = None,
    strict: bool = False,
    protocols: Sequence[str] = (),
    judge: JudgeSettings | None = None,
    store: str = "",
) -> Report:
    """Grade the predictions of one or more models on the same records and write the report.

    Args:
        files: One file a model, in the order of comparison; see
            :mod:`components.eval.stored.predictions`.
        out: Folder for ``report.html``, ``report.json``, ``report.md``, ``judgements/`` and, where
            there are any, ``samples/``.
        records: Canonical records, whose ids the predictions name; without them the gold answers
            are those in the first file.
        task: Of records that do not say.
        strict: Whether an answer must have the format that omnistage's prompts ask for.
        protocols: Names of further protocols to score the same predictions under.
        judge: An LLM that scores answers of ``free_form`` too.
        store: URI of the store that keeps what the judge said.

    Raises:
        InputError: If a file cannot be read or predicts none of the records, or the judge refuses.
        TransientError: If the judge does not answer.
    """
    read = {n: by_record(read_predictions(path), str(path)) for n, path in _names(files).items()}
    tested = _read(records) if records else _from_files(read, task)
    predicted = {name: _by_id(name, found, tested) for name, found in read.items()}
    results, samples = _grade(tested, predicted, out, strict)
    models = {result.name: result.graded for result in results}
    judged = judge_answers(tested, models, judge, store) if judge else {}
    notes = [*_in_one_order(results), *sample_notes(predicted, samples)]
    data = ReportData(
        "predictions",
        results,
        tested,
        {},
        samples=samples,
        judged=judged,
        rotated=said_in_rotations(tested, predicted, strict=strict),
        protocols=protocols,
        notes=[*notes, *(judge_notes(tested, judged) if judge else ())],
    )
    report = build_report(data)
    write_atomic(out / "report.html", report.html)
    write_atomic(out / "report.md", report.markdown)
    write_json(out / "report.json", report.json)
    return report


def _grade(
    records: Sequence[TestRecord],
    predicted: Mapping[str, Mapping[str, Predicted]],
    out: Path,
    strict: bool,
) -> tuple[list[ModelResult], dict[str, list[list[Graded]]]]:
    """Grade every model's answers and samples, write both, and return them."""
    results, samples = [], {}
    for name, found in predicted.items():
        answers = answers_of(records, {i: p.answer for i, p in found.items()})
        graded = grade(records, answers, strict=strict)
        rows = [g.row(r) for g, r in zip(graded, records, strict=True)]
        write_jsonl(out / "judgements" / f"{name}.jsonl", rows)
        results.append(ModelResult(name, graded))
        if sampled := graded_samples(records, found, strict=strict):
            samples[name] = sampled
            write_samples(out / "samples" / f"{name}.jsonl", records, sampled)
    return results, samples


def _by_id(
    name: str, predicted: dict[str, Predicted], records: Sequence[TestRecord]
) -> dict[str, Predicted]:
    """Return what is predicted of the records, by their ids.

    Suites that number the rows of a set (``doc_id``, ``index``) mean its records in their order.

    Raises:
        InputError: If nothing is predicted of any of them.
    """
    if any(r.id in predicted for r in records):
        return predicted
    numbers = [int(i) if i.isdecimal() else -1 for i in predicted]
    if not all(0 <= n < len(records) for n in numbers):
        raise InputError(f"{name}: predicts none of the {counted(len(records), 'record')}")
    return {records[n].id: p for n, p in zip(numbers, predicted.values(), strict=True)}


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
    predicted: Mapping[str, Mapping[str, Predicted]], task: str | None
) -> list[TestRecord]:
    """Make records of what the first file says of them."""
    name, predictions = next(iter(predicted.items()))
    found = []
    for p in (each.answer for each in predictions.values()):
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
