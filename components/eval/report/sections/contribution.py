"""What each modality contributes: how far the figures fall when it is taken away.

``contribution`` of a task in ``report.json`` has for each ablation of
:mod:`components.eval.variants.ablation` the ``records`` that it changes, and for each model its
``metrics`` ``with`` and ``without`` on these records, the ``fall`` of its mean score (with −
without) with its paired interval and p value, corrected over all models and ablations of the task
(Holm), and the ids of the records whose score moved: ``lost`` without the modality, ``gained``
without it.
"""

from collections.abc import Sequence

from components.eval.grading import Graded
from components.eval.metrics.comparison import compare, holm
from components.eval.records import TestRecord
from components.eval.report.data import ReportData
from components.eval.report.figures import Figures, difference


def contribution(data: ReportData, records: Sequence[TestRecord]) -> Figures:
    """Return the figures of one task; see the module.

    Args:
        data: The evaluation.
        records: The task's records.
    """
    whole = {m.name: {g.id: g for g in m.graded} for m in data.models}
    found: Figures = {}
    for ablation, models in data.ablations.items():
        blocks: Figures = {}
        changed: list[TestRecord] = []
        for model in models:
            without = {g.id: g for g in model.graded}
            changed = [r for r in records if r.id in without]
            if changed:
                intact = [whole[model.name][r.id] for r in changed]
                ablated = [without[r.id] for r in changed]
                blocks[model.name] = _model(data, changed, intact, ablated)
        if blocks:
            found[ablation] = {"records": len(changed), "models": blocks}
    falls = [m["fall"] for block in found.values() for m in block["models"].values()]
    for fall, p_value in zip(falls, holm([f["p_value"] for f in falls]), strict=True):
        fall["p_holm"] = p_value
    return found


def _model(
    data: ReportData,
    records: Sequence[TestRecord],
    intact: Sequence[Graded],
    ablated: Sequence[Graded],
) -> Figures:
    task, golds = records[0].task, [r.gold for r in records]
    whole = task.measure(golds, [g.said for g in intact])
    without = task.measure(golds, [g.said for g in ablated])
    pairs = list(zip(intact, ablated, strict=True))
    fall = compare(
        [g.score for g in intact],
        [g.score for g in ablated],
        [r.cluster for r in records],
        resamples=data.bootstrap_samples,
        seed=data.bootstrap_seed,
    )
    return {
        "metrics": {n: {"with": r.value, "without": without[n].value} for n, r in whole.items()},
        "fall": difference(fall),
        "errors": sum(g.error is not None for g in ablated),
        "lost": [g.id for g, without in pairs if without.score < g.score],
        "gained": [g.id for g, without in pairs if without.score > g.score],
    }
