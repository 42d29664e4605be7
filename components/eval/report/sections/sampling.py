"""Several samples of each record: pass@k, and what their majority says.

``sampling`` of a task in ``report.json`` has the largest number of ``samples`` of each record, the
``budgets`` k of pass@k, and for each of ``models`` the number of its own ``samples``, the mean
score of its ``greedy`` answers, that ``mean`` over the samples, the score of the ``majority`` vote,
each with its interval, ``pass`` by k, and ``agreement``, the mean share of a record's samples that
give the majority's answer. The ``mean`` is also what a random pick scores on average. Where a judge
picked one of each record's samples, ``picked`` is the score of these, with its interval, and
``picked_by`` its name. A sample is right when its score is 1; of a pair to judge, in both orders.
"""

from collections.abc import Mapping, Sequence

from components.eval.grading import Graded
from components.eval.metrics.bootstrap import bootstrap, mean_of
from components.eval.metrics.sampling import agreement, majority_vote, pass_at_k
from components.eval.records import TestRecord
from components.eval.report.data import ReportData
from components.eval.report.figures import Figures, bounds


def sampling(
    data: ReportData, records: Sequence[TestRecord], graded: Mapping[str, Sequence[Graded]]
) -> Figures:
    """Return the figures of one task, empty where nothing was sampled; see the module.

    Args:
        data: The evaluation.
        records: The task's records.
        graded: Each model's greedy answers, in their order.
    """
    models: Figures = {}
    for name, samples in data.samples.items():
        by_id = [{g.id: g for g in sample} for sample in samples]
        if any(r.id not in sample for r in records for sample in by_id):
            continue  # predictions of other tasks' records have samples
        of_records = [[sample[r.id] for sample in by_id] for r in records]
        picked = {g.id: g for g in data.picked.get(name, ())}
        of_judge = [picked[r.id] for r in records if r.id in picked]
        asked = [r for r in records if r.id in picked]
        models[name] = _model(data, records, graded[name], of_records)
        models[name]["picked"] = _interval(data, asked, [g.score for g in of_judge])
    if not models:
        return {}
    return {
        "samples": max(m["samples"] for m in models.values()),
        "budgets": sorted({k for m in models.values() for k in m["pass"]}, key=int),
        "picked_by": data.picked_by,
        "models": models,
    }


def _model(
    data: ReportData,
    records: Sequence[TestRecord],
    greedy: Sequence[Graded],
    samples: Sequence[Sequence[Graded]],
) -> Figures:
    count = len(samples[0])
    right = [sum(g.score == 1 for g in each) for each in samples]
    return {
        "samples": count,
        "greedy": _interval(data, records, [g.score for g in greedy]),
        "mean": _interval(data, records, [sum(g.score for g in each) / count for each in samples]),
        "majority": _interval(
            data, records, [_voted(r, each) for r, each in zip(records, samples, strict=True)]
        ),
        "pass": {
            str(k): _interval(data, records, [pass_at_k(count, c, k) for c in right])
            for k in _budgets(count)
        },
        "agreement": sum(map(_agreement, samples)) / len(samples),
    }


def _interval(
    data: ReportData, records: Sequence[TestRecord], values: Sequence[float]
) -> Figures | None:
    """Return the mean of a value of each record with its interval; None without any record."""
    if not records:
        return None
    settings = {"resamples": data.bootstrap_samples, "seed": data.bootstrap_seed}
    return bounds(bootstrap(mean_of(values), [r.cluster for r in records], **settings))


def _voted(record: TestRecord, samples: Sequence[Graded]) -> float:
    """Return the score of what most samples say, of each prompt on its own."""
    said = zip(*(g.said for g in samples), strict=True)
    return record.task.record_score(record.gold, tuple(map(majority_vote, said)))


def _agreement(samples: Sequence[Graded]) -> float:
    said = list(zip(*(g.said for g in samples), strict=True))
    return sum(map(agreement, said)) / len(said)


def _budgets(count: int) -> list[int]:
    """Return the k to show: the powers of 2 up to the number of samples, and that number."""
    powers = [2**n for n in range(count.bit_length()) if 2**n < count]
    return [*powers, count]
