"""The same report across runs, recipes and seeds, from the judgements that each left.

An evaluation is a folder with ``report.json`` and ``judgements/<model>.jsonl``. Its records are
made of these files again: without prompts and media, but with what was said, the gold answer, and
the media's names, so that intervals are those of the evaluation itself. Models of one name and
recipe whose seeds differ are repetitions; their mean and spread stand in a table.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.eval.grading import ORDERS, Answer, Graded
from components.eval.records import TestRecord
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import Report, build_report
from components.eval.tasks import TASKS
from omnistage.errors import InputError
from omnistage.files import counted, read_json, read_jsonl, write_atomic, write_json

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """One model of one evaluation.

    Attributes:
        name: As the report calls it: ``<evaluation>/<model>``.
        group: Recipe and model, which repetitions share.
        seeds: Seeds by what they seed; empty where they are not known.
        weights: Of the rewards in its judgements.
        rows: Its judgements by record.
    """

    name: str
    group: str
    seeds: Mapping[str, int]
    weights: Mapping[str, float]
    rows: Mapping[str, Row]


def compare_evaluations(places: Mapping[str, Path], out: Path) -> Report:
    """Write one report on the models of several evaluations.

    Args:
        places: Folder of each evaluation, or file of one model's judgements, by a short name.
        out: Folder for ``report.html``, ``report.json`` and ``report.md``.

    Raises:
        InputError: If one is not an evaluation, or they have no record in common.
    """
    models = [model for name, place in places.items() for model in _read(name, place)]
    # Models of one kind stand together, so that repetitions are neighbours.
    order = list(dict.fromkeys(model.group for model in models))
    models.sort(key=lambda model: order.index(model.group))
    common = [i for i in models[0].rows if all(i in m.rows for m in models)]
    if not common:
        raise InputError(f"{' and '.join(places)}: they have no record in common")
    records = [_record(models[0].rows[i]) for i in common]
    for model in models:
        _check_gold(model, models[0], common)
    # A total with other weights is another figure.
    weights = models[0].weights if all(m.weights == models[0].weights for m in models) else {}
    data = ReportData(
        recipe="comparison",
        models=[ModelResult(m.name, _answers(m, records, weights)) for m in models],
        records=records,
        reward_weights=weights,
        repeated=_repeated(models),
        notes=_notes(models, common),
    )
    report = build_report(data)
    write_atomic(out / "report.html", report.html)
    write_atomic(out / "report.md", report.markdown)
    write_json(out / "report.json", report.json)
    return report


def _read(name: str, place: Path) -> list[Evaluated]:
    if place.is_file():
        return [Evaluated(name, name, {}, {}, _judgements(place))]
    if not (place / "report.json").is_file():
        raise InputError(f"{place}: no report.json; give a run, an evaluation or a judgements file")
    report = read_json(place / "report.json")
    ran = report["provenance"]
    found = []
    for path in sorted((place / "judgements").glob("*.jsonl"), key=_as_in(report)):
        group = f"{report['recipe']}/{path.stem}"
        found.append(
            Evaluated(
                f"{name}/{path.stem}", group, ran["seeds"], ran["reward_weights"], _judgements(path)
            )
        )
    if not found:
        raise InputError(f"{place}: no judgements/*.jsonl beside report.json")
    return found


def _as_in(report: Row) -> Any:
    names = list(report["headline"]["models"])
    return lambda path: names.index(path.stem) if path.stem in names else len(names)


def _judgements(path: Path) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for number, row in enumerate(read_jsonl(path), 1):
        if not row.keys() >= {"id", "task", "gold", "score", "first"} or row["task"] not in TASKS:
            raise InputError(f"{path}:{number}: not a judgement of an evaluation")
        found[row["id"]] = row
    return found


def _check_gold(model: Evaluated, first: Evaluated, common: Sequence[str]) -> None:
    other = next((i for i in common if model.rows[i]["gold"] != first.rows[i]["gold"]), None)
    if other is not None:
        raise InputError(
            f"record {other!r} has the gold answer {model.rows[other]['gold']!r} in {model.name} "
            f"and {first.rows[other]['gold']!r} in {first.name}: these are different test sets"
        )


def _record(row: Row) -> TestRecord:
    """Return the record that a judgement is about, as far as the judgement tells."""
    media = row.get("media") or {}
    asked = row.get("question") or f"Record {row['id']}"
    canonical = {
        "id": row["id"],
        "source": row.get("source", ""),
        "task": row["task"],
        "messages": [{"role": "user", "content": asked}],
        "solution": row["gold"],
        **media,
    }
    # A baseline such as the longer answer is made of the prompt, which is not there.
    task = replace(TASKS[row["task"]], baselines=None)
    return TestRecord(canonical, task, gold=row["gold"], media=media)


def _answers(
    model: Evaluated, records: Sequence[TestRecord], weights: Mapping[str, float]
) -> list[Graded]:
    graded = []
    for record in records:
        row = model.rows[record.id]
        told = (row[order] for order in ORDERS if order in row)
        answers = tuple(Answer(a["text"], a.get("said"), a.get("error")) for a in told)
        rewards = {n: v for n, v in (row.get("rewards") or {}).items() if n in weights}
        graded.append(Graded(record.id, answers, row["score"], rewards))
    return graded


def _repeated(models: Sequence[Evaluated]) -> dict[str, list[str]]:
    """Return the models of each group whose seeds differ."""
    groups: dict[str, dict[tuple[Any, ...], str]] = defaultdict(dict)
    for model in models:
        if model.seeds:
            groups[model.group].setdefault(tuple(sorted(model.seeds.items())), model.name)
    return {name: list(found.values()) for name, found in groups.items() if len(found) > 1}


def _notes(models: Sequence[Evaluated], common: Sequence[str]) -> list[str]:
    every = {i for m in models for i in m.rows}
    if len(every) == len(common):
        return []
    return [
        f"{counted(len(every) - len(common), 'record')} that not every model was asked are left "
        f"out; {len(common):,} are compared."
    ]
