"""Choices asked with their options in every rotation: does the place decide?

``positions`` of ``choice`` in ``report.json`` has the number of ``records`` whose options were
rotated, those ``left_out`` because their options cannot be moved, and for each of ``models`` the
``metrics`` of :func:`components.eval.metrics.positions.rotation_metrics` with their intervals, the
accuracy in the ``given`` order of the same records, and the share of answers ``by_place``.
"""

from collections.abc import Sequence

from components.eval.metrics.bootstrap import Ratio, bootstrap, mean_of
from components.eval.metrics.positions import by_place, rotation_metrics
from components.eval.records import TestRecord
from components.eval.report.data import ReportData
from components.eval.report.figures import Figures, bounds


def positions(data: ReportData, records: Sequence[TestRecord]) -> Figures:
    """Return the figures of one task, empty where nothing was rotated; see the module.

    Args:
        data: The evaluation.
        records: The task's records.
    """
    models: Figures = {}
    asked: list[TestRecord] = []
    for name, said in data.rotated.items():
        asked = [r for r in records if r.id in said]
        if not asked:
            return {}
        clusters = [r.cluster for r in asked]

        def interval(ratio: Ratio, clusters: Sequence[str] = clusters) -> Figures:
            settings = {"resamples": data.bootstrap_samples, "seed": data.bootstrap_seed}
            return bounds(bootstrap(ratio, clusters, **settings))

        golds, rotations = [r.gold for r in asked], [said[r.id] for r in asked]
        given = mean_of([s[0] == gold for s, gold in zip(rotations, golds, strict=True)])
        measured = rotation_metrics(golds, rotations)
        models[name] = {
            "given": interval(given),
            "metrics": {metric: interval(ratio) for metric, ratio in measured.items()},
            "by_place": by_place(rotations),
        }
    if not models:
        return {}
    return {"records": len(asked), "left_out": len(records) - len(asked), "models": models}
