"""The report's numbers, in the layout of ``report.json``; shares are 0 to 1, unknown is null.

``headline`` is for programs that want one figure a model::

    {"task": "judge", "metric": "accuracy", "records": 600,
     "models": {"grpo": {"value": .81, "low": .78, "high": .84}}, "constant": {…}}

``tasks`` has, for each task of the test set, ``records``, ``models``, ``baselines``,
``differences``, ``breakdown``, ``calibration``, ``contribution``, ``sampling``, ``positions``,
``protocols`` and ``repetitions``; a model's figures are those of all records and again
``by_modality``.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

from components.eval.grading import Graded
from components.eval.metrics.bootstrap import Interval, Ratio, bootstrap, mean_of, share_of
from components.eval.metrics.classification import confusion
from components.eval.metrics.comparison import Comparison, compare, holm
from components.eval.records import TestRecord
from components.eval.report.data import ModelResult, ReportData, total_reward
from components.eval.report.figures import Figures, bounds, difference
from components.eval.report.sections.breakdown import breakdown
from components.eval.report.sections.calibration import calibration
from components.eval.report.sections.contribution import contribution
from components.eval.report.sections.positions import positions
from components.eval.report.sections.protocols import under_protocols
from components.eval.report.sections.repetitions import repetitions
from components.eval.report.sections.sampling import sampling
from components.eval.tasks.task import Said
from omnistage.errors import InputError

_MOST_CLASSES = 20


def compute(data: ReportData) -> Figures:
    """Return ``headline`` and ``tasks``.

    Raises:
        InputError: If there is no record or no model, or a model's answers are not one for each
            record with known rewards.
    """
    check(data)
    names = dict.fromkeys(record.task.name for record in data.records)
    tasks = {
        name: _TaskNumbers(data, [r for r in data.records if r.task.name == name]).figures()
        for name in names
    }
    return {"headline": _headline(tasks), "tasks": tasks}


def check(data: ReportData) -> None:
    """Refuse answers that are not about the test records.

    Raises:
        InputError: As told in :func:`compute`.
    """
    if not data.records or not data.models:
        raise InputError("a report needs at least one test record and one evaluated model")
    known = Counter(r.id for r in data.records)
    if len(known) != len(data.records):
        repeated = known.most_common(1)[0][0]
        raise InputError(f"the test records hold the id {repeated!r} more than once")
    for model in data.models:
        graded = Counter(g.id for g in model.graded)
        if graded != known:
            record_id = next(i for i in (*known, *graded) if graded[i] != known[i])
            raise InputError(
                f"model {model.name}: {graded[record_id]} answers to record {record_id!r}, "
                f"expected {known[record_id]}; evaluate it again on these test records"
            )
        for reward in {name for g in model.graded for name in g.rewards}:
            if reward not in data.reward_weights:
                raise InputError(f"reward {reward!r} has no weight; name it in reward_weights")


def best_baseline(task: Mapping[str, Any], modality: str | None = None) -> tuple[str, float]:
    """Return the constant baseline with the highest headline metric, as people read its name.

    Args:
        task: Figures of a task.
        modality: Count the records of this modality only.
    """
    values = {
        name.replace("_", " "): (b["by_modality"][modality] if modality else b)["value"]
        for name, b in task["baselines"].items()
    }
    best = max(values, key=lambda name: values[name])
    return best, values[best]


class _TaskNumbers:
    """The figures of one task's records."""

    def __init__(self, data: ReportData, records: Sequence[TestRecord]) -> None:
        self.data, self.records, self.task = data, records, records[0].task
        self.golds = [record.gold for record in records]
        self.graded = {m.name: _in_order(m, records) for m in data.models}
        self.clusters = [record.cluster for record in records]
        modalities = [record.modality for record in records]
        self.groups = {
            name: [i for i, m in enumerate(modalities) if m == name]
            for name in dict.fromkeys(modalities)
        }

    def figures(self) -> Figures:
        """Return all figures of the task."""
        golds = Counter(self.golds)
        models = {name: self._model(name, graded) for name, graded in self.graded.items()}
        return {
            "title": self.task.title,
            "about": self.task.about,
            "metric": self.task.headline,
            "records": len(self.records),
            "by_modality": {name: len(rows) for name, rows in self.groups.items()},
            "gold": dict(sorted(golds.items())) if len(golds) <= _MOST_CLASSES else None,
            "models": models,
            "baselines": self._baselines(),
            "differences": self._differences(),
            "breakdown": breakdown(self.data, self.records, self.graded),
            "calibration": calibration(self.records, self.graded)
            if self.task.name == "judge"
            else {},
            "contribution": contribution(self.data, self.records),
            "sampling": sampling(self.data, self.records, self.graded),
            "positions": positions(self.data, self.records),
            "repetitions": repetitions(self.data.repeated, models),
            "protocols": under_protocols(self.data, self.records, self.graded),
        }

    def _model(self, name: str, graded: Sequence[Graded]) -> Figures:
        figures = self._grouped(lambda rows: self._block(name, [graded[i] for i in rows], rows))
        answers = [answer for g in graded for answer in g.answers]
        classes = self.task.labels and len(set(self.golds)) <= _MOST_CLASSES
        figures["confusion"] = _confusion(self.golds, graded) if classes else None
        figures["errors"] = sum(g.error is not None for g in graded)
        figures["lengths"] = sum(len(a.text) for a in answers) / len(answers)
        return figures

    def _block(self, name: str, graded: Sequence[Graded], rows: Sequence[int]) -> Figures:
        said = [g.said for g in graded]
        valid = [sum(s is not None for s in each) / len(each) for each in said]
        measured = self.task.measure([self.golds[i] for i in rows], said)
        judged = self.data.judged.get(name, {})
        if any(g.id in judged for g in graded):
            scores = [judged.get(g.id) for g in graded]
            measured["judged"] = share_of(
                [score or 0.0 for score in scores], [score is not None for score in scores]
            )
        measured["valid"] = mean_of(valid)
        return {
            "records": len(rows),
            "errors": sum(g.error is not None for g in graded),
            "metrics": {name: self._interval(ratio, rows) for name, ratio in measured.items()},
            "reward": self._reward(graded, rows),
        }

    def _reward(self, graded: Sequence[Graded], rows: Sequence[int]) -> Figures | None:
        weights = self.data.reward_weights
        totals = [(total_reward(g.rewards, weights), i) for g, i in zip(graded, rows, strict=True)]
        paid = [(total, i) for total, i in totals if total is not None]
        if not paid:
            return None
        interval = self._interval(mean_of([t for t, _ in paid]), [i for _, i in paid])
        by_reward = {}
        for name in weights:
            values = [v for g in graded if (v := g.rewards.get(name)) is not None]
            by_reward[name] = math.fsum(values) / len(values) if values else None
        return {"mean": interval["value"], **interval, "by_reward": by_reward}

    def _baselines(self) -> Figures:
        said = dict(self.task.constants(self.golds))
        if self.task.baselines:
            said |= self.task.baselines([record.row for record in self.records])

        def value(each: Sequence[Said], rows: Sequence[int]) -> Figures:
            golds = [self.golds[i] for i in rows]
            measured = self.task.measure(golds, [each[i] for i in rows])
            return self._interval(measured[self.task.headline], rows)

        return {
            name.replace(" ", "_"): self._grouped(lambda rows, each=each: value(each, rows))
            for name, each in said.items()
        }

    def _differences(self) -> Figures:
        found: Figures = {}
        for old, new in pairwise(self.graded):
            after, before = self.graded[new], self.graded[old]
            both = self._grouped(lambda rows, a=after, b=before: self._compared(a, b, rows))
            found[f"{new}_minus_{old}"] = {"model": new, "against": old, **both}
        for group in (None, *self.groups):
            blocks = [d["by_modality"][group] if group else d for d in found.values()]
            corrected = holm([block["score"]["p_value"] for block in blocks])
            for block, p_value in zip(blocks, corrected, strict=True):
                block["score"]["p_holm"] = p_value
        return found

    def _compared(
        self, after: Sequence[Graded], before: Sequence[Graded], rows: Sequence[int]
    ) -> Figures:
        weights = self.data.reward_weights
        score = self._compare([(after[i].score, before[i].score, i) for i in rows])
        totals = [
            (total_reward(after[i].rewards, weights), total_reward(before[i].rewards, weights), i)
            for i in rows
        ]
        known = [(a, b, i) for a, b, i in totals if a is not None and b is not None]
        reward = difference(self._compare(known)) if known else None
        return {"score": difference(score), "reward": reward}

    def _compare(self, pairs: Sequence[tuple[float, float, int]]) -> Comparison:
        return compare(
            [new for new, *_ in pairs],
            [old for _, old, _ in pairs],
            [self.clusters[i] for *_, i in pairs],
            resamples=self.data.bootstrap_samples,
            seed=self.data.bootstrap_seed,
        )

    def _grouped(self, of: Callable[[Sequence[int]], Figures]) -> Figures:
        whole = of(range(len(self.records)))
        if len(self.groups) == 1:  # the same records, and the same figures, again
            return {**whole, "by_modality": {name: deepcopy(whole) for name in self.groups}}
        return {**whole, "by_modality": {name: of(rows) for name, rows in self.groups.items()}}

    def _interval(self, ratio: Ratio, rows: Sequence[int]) -> Figures:
        interval: Interval = bootstrap(
            ratio,
            [self.clusters[i] for i in rows],
            resamples=self.data.bootstrap_samples,
            seed=self.data.bootstrap_seed,
        )
        return bounds(interval)


def _headline(tasks: Mapping[str, Any]) -> Figures:
    """Return the headline metric of the task with the most records."""
    name = max(tasks, key=lambda n: tasks[n]["records"])
    task = tasks[name]
    constant, value = best_baseline(task)
    return {
        "task": name,
        "metric": task["metric"],
        "records": task["records"],
        "models": {n: m["metrics"][task["metric"]] for n, m in task["models"].items()},
        "constant": {"name": constant, "value": value},
    }


def _in_order(model: ModelResult, records: Sequence[TestRecord]) -> list[Graded]:
    by_id = {g.id: g for g in model.graded}
    return [by_id[record.id] for record in records]


def _confusion(golds: Sequence[str], graded: Sequence[Graded]) -> Figures:
    pairs = [(gold, s) for gold, g in zip(golds, graded, strict=True) for s in g.said]
    counts = confusion([gold for gold, _ in pairs], [s for _, s in pairs])
    table: Figures = {gold: {} for gold in sorted(set(golds))}
    for (gold, said), count in sorted(counts.items(), key=lambda item: -item[1]):
        table[gold][said or ""] = count
    return table
