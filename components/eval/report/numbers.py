"""The report's numbers, in the layout of ``report.json``; shares are 0 to 1, unknown is null."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from components.eval.metrics import (
    GoldPair,
    Interval,
    PairJudgement,
    baselines,
    bootstrap_mean,
    paired_difference,
    record_accuracy,
    summarize,
)
from components.eval.report.data import Judgement, ModelResult, ReportData, total_reward, winner
from omnistage.errors import InputError

Bootstrap = Callable[[Sequence[float]], Interval]


def compute(data: ReportData) -> dict[str, Any]:
    """Return ``pairs``, ``models``, ``baselines`` and ``differences``.

    Raises:
        InputError: If there is no record or no model, or a model's judgements are not one for each
            record with the record's gold and known rewards.
    """
    check(data)
    return {
        "pairs": {
            "total": len(data.records),
            "by_modality": dict(Counter(r.modality for r in data.records)),
            "gold": dict(sorted(Counter(r.gold for r in data.records).items())),
        },
        "models": {m.name: _model(m, data) for m in data.models},
        "baselines": _baselines(data),
        "differences": {
            f"{new.name}_minus_{old.name}": _difference(new, old, data)
            for old, new in pairwise(data.models)
        },
    }


def check(data: ReportData) -> None:
    """Refuse judgements that are not about the test records.

    Raises:
        InputError: As told in :func:`compute`.
    """
    if not data.records or not data.models:
        raise InputError("a report needs at least one test record and one evaluated model")
    gold = {r.id: r.gold for r in data.records}
    if len(gold) != len(data.records):
        repeated = Counter(r.id for r in data.records).most_common(1)[0][0]
        raise InputError(f"the test records hold the id {repeated!r} more than once")
    for model in data.models:
        judged = Counter(j["id"] for j in model.judgements)
        for record_id in judged.keys() | gold.keys():
            if judged[record_id] != (record_id in gold):
                raise InputError(
                    f"model {model.name}: {judged[record_id]} judgements of record {record_id!r}, "
                    f"expected {int(record_id in gold)}; evaluate it again on these test records"
                )
        for j in model.judgements:
            if j["gold"] != gold[j["id"]]:
                raise InputError(
                    f"model {model.name}: record {j['id']!r} was judged against gold {j['gold']!r} "
                    f"but the test record says {gold[j['id']]!r}"
                )
            for reward in j["rewards"]:
                if reward not in data.reward_weights:
                    raise InputError(f"reward {reward!r} has no weight; name it in reward_weights")


def _model(model: ModelResult, data: ReportData) -> dict[str, Any]:
    by_id = {j["id"]: j for j in model.judgements}
    judgements = [by_id[r.id] for r in data.records]
    return _grouped(judgements, [r.modality for r in data.records], lambda js: _judged(js, data))


def _judged(judgements: Sequence[Judgement], data: ReportData) -> dict[str, Any]:
    return _summary(_pairs(judgements), data) | {"reward": _reward(judgements, data)}


def _baselines(data: ReportData) -> dict[str, Any]:
    gold = [
        GoldPair(r.id, r.gold, r.modality, len(r.response_a), len(r.response_b))
        for r in data.records
    ]
    modalities = [r.modality for r in data.records]
    return {
        name.replace(" ", "_"): _grouped(
            said, modalities, lambda js: {"accuracy": _summary(js, data)["accuracy"]}
        )
        for name, said in baselines(gold).items()
    }


def _grouped(rows: Sequence[Any], modalities: Sequence[str], of: Callable) -> dict[str, Any]:
    by_modality = {
        name: of([row for row, m in zip(rows, modalities, strict=True) if m == name])
        for name in dict.fromkeys(modalities)
    }
    return {**of(rows), "by_modality": by_modality}


def _pairs(judgements: Sequence[Judgement]) -> list[PairJudgement]:
    return [
        PairJudgement(j["id"], j["gold"], j["modality"], winner(j["first"]), winner(j["second"]))
        for j in judgements
    ]


def _summary(pairs: Sequence[PairJudgement], data: ReportData) -> dict[str, Any]:
    summary = summarize(pairs)
    return {
        "pairs": summary.pairs,
        "accuracy": _interval(_bootstrap(data)(list(record_accuracy(pairs)))),
        "valid": _known(summary.valid),
        "ties": _known(summary.ties),
        "consistency": _known(summary.consistency),
        "first_shown": _known(summary.first_shown),
    }


def _reward(judgements: Sequence[Judgement], data: ReportData) -> dict[str, Any] | None:
    totals = [total_reward(j["rewards"], data.reward_weights) for j in judgements]
    present = [t for t in totals if t is not None]
    if not present:
        return None
    interval = _bootstrap(data)(present)
    by_reward = {}
    for name in data.reward_weights:
        values = [v for j in judgements if (v := j["rewards"].get(name)) is not None]
        by_reward[name] = math.fsum(values) / len(values) if values else None
    return {
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "by_reward": by_reward,
    }


def _difference(new: ModelResult, old: ModelResult, data: ReportData) -> dict[str, Any]:
    after, before = ({j["id"]: j for j in m.judgements} for m in (new, old))

    def compare(ids: Sequence[str]) -> dict[str, Any]:
        accuracy = _paired(
            record_accuracy(_pairs([after[i] for i in ids])).tolist(),
            record_accuracy(_pairs([before[i] for i in ids])).tolist(),
            data,
        )
        totals = [
            (
                total_reward(after[i]["rewards"], data.reward_weights),
                total_reward(before[i]["rewards"], data.reward_weights),
            )
            for i in ids
        ]
        both = [(a, b) for a, b in totals if a is not None and b is not None]
        reward = _paired([a for a, _ in both], [b for _, b in both], data) if both else None
        return {"accuracy": accuracy, "reward": reward}

    ids, modalities = [r.id for r in data.records], [r.modality for r in data.records]
    return {"model": new.name, "against": old.name, **_grouped(ids, modalities, compare)}


def _paired(new: Sequence[float], old: Sequence[float], data: ReportData) -> dict[str, float]:
    return _interval(
        paired_difference(new, old, resamples=data.bootstrap_samples, seed=data.bootstrap_seed)
    )


def _bootstrap(data: ReportData) -> Bootstrap:
    return lambda values: bootstrap_mean(
        values, resamples=data.bootstrap_samples, seed=data.bootstrap_seed
    )


def _interval(interval: Interval) -> dict[str, float]:
    return {"value": interval.mean, "low": interval.low, "high": interval.high}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def best_baseline(numbers: Mapping[str, Any], modality: str | None = None) -> tuple[str, float]:
    """Return the constant baseline with the highest accuracy, as people read its name.

    Args:
        numbers: What :func:`compute` returned.
        modality: Count the pairs of this modality only.
    """
    accuracies = {
        name.replace("_", " "): (b["by_modality"][modality] if modality else b)["accuracy"]["value"]
        for name, b in numbers["baselines"].items()
    }
    best = max(accuracies, key=lambda name: accuracies[name])
    return best, accuracies[best]
