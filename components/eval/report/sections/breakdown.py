"""The headline figure by source and category, and by length of the question.

``breakdown`` of a task in ``report.json`` has for each way to part the records its ``groups``, each
with ``records`` and every model's figure and interval. Sources are those of the data; a benchmark's
category stands in its source after ``/``. Lengths are quarters of the records by the characters of
the prompt. A way that has only one group is left out.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from components.eval.grading import Graded
from components.eval.metrics.bootstrap import bootstrap
from components.eval.records import TestRecord
from components.eval.report.data import ReportData
from components.eval.report.figures import Figures, bounds

_MOST_GROUPS = 30
_FEWEST_FOR_LENGTHS = 40


def breakdown(
    data: ReportData, records: Sequence[TestRecord], graded: Mapping[str, Sequence[Graded]]
) -> Figures:
    """Return the figures of one task; see the module.

    Args:
        data: The evaluation.
        records: The task's records.
        graded: Each model's answers, in their order.
    """
    ways: dict[str, Sequence[str]] = {
        "source": [str(r.row.get("source", "")) for r in records],
        "length of the question": _quarters([_characters(r) for r in records]),
    }
    found: Figures = {}
    for way, names in ways.items():
        groups = sorted(set(names))
        if 1 < len(groups) <= _MOST_GROUPS:
            found[way] = {
                group: _group(data, records, graded, [i for i, n in enumerate(names) if n == group])
                for group in groups
            }
    return found


def _group(
    data: ReportData,
    records: Sequence[TestRecord],
    graded: Mapping[str, Sequence[Graded]],
    rows: Sequence[int],
) -> Figures:
    task, golds = records[0].task, [records[i].gold for i in rows]
    models: Figures = {}
    for name, answers in graded.items():
        measured = task.measure(golds, [answers[i].said for i in rows])
        interval = bootstrap(
            measured[task.headline],
            [records[i].cluster for i in rows],
            resamples=data.bootstrap_samples,
            seed=data.bootstrap_seed,
        )
        models[name] = bounds(interval)
    return {"records": len(rows), "models": models}


def _characters(record: TestRecord) -> int:
    return sum(len(m["content"]) for m in record.row["messages"] if m["role"] == "user")


def _quarters(lengths: Sequence[int]) -> list[str]:
    """Return the quarter that each length falls into, named by its bounds, in order of length."""
    if len(lengths) < _FEWEST_FOR_LENGTHS or len(set(lengths)) < 4:
        return [""] * len(lengths)
    edges = [int(e) for e in np.quantile(lengths, [0.25, 0.5, 0.75])]
    width = len(str(max(lengths)))
    bounds_of = [min(lengths), *(e + 1 for e in edges)], [*edges, max(lengths)]
    names = [f"{low:>{width}} to {high} characters" for low, high in zip(*bounds_of, strict=True)]
    return [names[sum(length > edge for edge in edges)] for length in lengths]
