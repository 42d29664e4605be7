"""What a reader should be warned of before believing the numbers.

Each check looks at the report's own numbers (the layout of ``report.json``) or at the logged curves
and says in one sentence what is wrong and what it means.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from components.eval.report.curves import is_rl
from components.eval.report.data import title_of
from components.eval.report.numbers import best_baseline
from components.eval.variants.ablation import TITLES as ABLATIONS
from omnistage.records.constant import SOLVED_BY_CONSTANT

VALID_AT_LEAST = 0.95
CONSISTENT_AT_LEAST = 0.8
FIRST_SHOWN_AT_MOST = 0.65
TIES_AT_MOST = 0.2
INTERVAL_AT_MOST = 0.2
REWARD_MOVED = 0.02
ZERO_SPREAD_AT_MOST = 0.8
CLIPPED_AT_MOST = 0.1


@dataclass(frozen=True)
class Finding:
    """One remark.

    Attributes:
        code: Stable name for programs.
        level: ``problem`` (do not trust the result), ``warning`` (look at it) or ``note``.
        text: The remark for people, one or two sentences.
    """

    code: str
    level: Literal["problem", "warning", "note"]
    text: str


def audit(
    tasks: Mapping[str, Mapping[str, Any]], curves: Mapping[str, Sequence[Mapping]]
) -> list[Finding]:
    """Return every finding, problems first.

    Args:
        tasks: Figures of each task, as in ``report.json``.
        curves: The training logs by stage.
    """
    found = [
        *(f for task in tasks.values() for f in _labels(task)),
        *(f for task in tasks.values() for f in _models(task)),
        *(f for task in tasks.values() for f in _differences(task)),
        *(f for task in tasks.values() for f in _contribution(task)),
        *(f for task in tasks.values() for f in _options(task)),
        *(f for task in tasks.values() for f in _sample(task)),
        *_missing(tasks, curves),
        *_training(curves),
    ]
    order = ("problem", "warning", "note")
    return sorted(found, key=lambda f: order.index(f.level))


def _labels(task: Mapping[str, Any]) -> Iterator[Finding]:
    for modality in (None, *task["by_modality"]):
        where = f"the {modality} records" if modality else "the test records"
        name, value = best_baseline(task, modality)
        if value is not None and value >= SOLVED_BY_CONSTANT:
            yield Finding(
                "labels_one_sided",
                "problem",
                f'{task["title"]}: on {where} the constant baseline "{name}" reaches {value:.1%}: '
                "a good figure there says little.",
            )


def _models(task: Mapping[str, Any]) -> Iterator[Finding]:
    best, constant = best_baseline(task)
    for name, m in task["models"].items():
        title = "The base model" if name == "base" else title_of(name)
        # An untrained model is expected to fail; its failures are told, not raised as alarms.
        trained = name != "base"
        level: Literal["warning", "note"] = "warning" if trained else "note"
        if m["errors"]:
            yield Finding(
                "errors",
                "warning",
                f"{title} gave no answer to {m['errors']} of {m['records']} records; each counts "
                "as wrong.",
            )
        valid = m["metrics"]["valid"]["value"]
        if valid < VALID_AT_LEAST:
            yield Finding(
                "invalid_answers",
                level,
                f"{title} gives a valid answer in {valid:.1%} of the cases; every other answer "
                "counts as wrong.",
            )
        if valid == 0 and not trained:
            continue
        headline = m["metrics"][task["metric"]]
        if headline["low"] <= constant:
            yield Finding(
                "not_above_constant",
                "problem" if trained else "note",
                f"{title} ({headline['value']:.1%}) is not shown to be better than the best "
                f'constant baseline ("{best}", {constant:.1%}).',
            )
        yield from _judging(title, level, m["metrics"])


def _judging(
    title: str, level: Literal["warning", "note"], metrics: Mapping[str, Any]
) -> Iterator[Finding]:
    """Yield what only a judge can do wrong; other tasks have none of these metrics."""
    first, consistency, ties = (
        metrics.get(name, {}).get("value") for name in ("first_shown", "consistency", "ties")
    )
    if first is not None and max(first, 1 - first) > FIRST_SHOWN_AT_MOST:
        place = "first" if first > 0.5 else "second"
        yield Finding(
            "position_bias",
            level,
            f"{title} names the response shown {place} in {max(first, 1 - first):.1%} of its "
            "decided answers; a judge that looks only at content is near 50%.",
        )
    if consistency is not None and consistency < CONSISTENT_AT_LEAST:
        yield Finding(
            "inconsistent",
            level,
            f"{title} keeps its verdict in {consistency:.1%} of the pairs when the responses are "
            "swapped.",
        )
    if ties is not None and ties > TIES_AT_MOST:
        yield Finding("many_ties", level, f"{title} calls {ties:.1%} of its answers a tie.")


def _differences(task: Mapping[str, Any]) -> Iterator[Finding]:
    for difference in task["differences"].values():
        new, old = title_of(difference["model"]), title_of(difference["against"])
        gaps = ((task["metric"], difference["score"]), ("reward", difference["reward"]))
        for what, gap in gaps:
            if gap is None:
                continue
            if gap["high"] < 0:
                yield Finding(
                    "worse_than_before", "problem", f"{new} has a lower mean {what} than {old}."
                )
            elif gap["low"] <= 0:
                yield Finding(
                    "no_gain_shown",
                    "warning",
                    f"A gain in {what} of {new} over {old} is not shown: the paired interval "
                    "includes zero.",
                )


def _contribution(task: Mapping[str, Any]) -> Iterator[Finding]:
    for ablation, block in task["contribution"].items():
        for name, m in block["models"].items():
            if m["fall"]["low"] > 0:
                continue
            values = m["metrics"][task["metric"]]
            yield Finding(
                "no_contribution",
                # Nothing is expected to carry the answers of an untrained model.
                "note" if name == "base" else "warning",
                f"{title_of(name)} is not shown to answer worse {ABLATIONS[ablation]}: "
                f"{values['without']:.1%} against {values['with']:.1%} of the same "
                f"{block['records']} records.",
            )


def _options(task: Mapping[str, Any]) -> Iterator[Finding]:
    for name, m in task["positions"].get("models", {}).items():
        consistency = m["metrics"]["consistency"]["value"]
        if consistency is not None and consistency < CONSISTENT_AT_LEAST:
            yield Finding(
                "inconsistent",
                "note" if name == "base" else "warning",
                f"{title_of(name)} names the same option in {consistency:.1%} of the questions "
                "when the options are rotated.",
            )


def _sample(task: Mapping[str, Any]) -> Iterator[Finding]:
    bounds = [m["metrics"][task["metric"]] for m in task["models"].values()]
    widest = max(b["high"] - b["low"] for b in bounds)
    if widest > INTERVAL_AT_MOST:
        yield Finding(
            "small_test_set",
            "warning",
            f"{task['records']} records leave an interval of {100 * widest:.0f} points on "
            f"{task['metric']}; small differences cannot be seen.",
        )


def _missing(
    tasks: Mapping[str, Mapping[str, Any]], curves: Mapping[str, Sequence[Mapping]]
) -> Iterator[Finding]:
    evaluated = {name for task in tasks.values() for name in task["models"]}
    if curves and "base" not in evaluated:
        yield Finding("model_missing", "note", "The base model was not evaluated.")


def _training(curves: Mapping[str, Sequence[Mapping]]) -> Iterator[Finding]:
    for name, rows in curves.items():
        title = title_of(name)
        for key in ("loss", "grad_norm", "reward"):
            bad = [row["step"] for row in rows if key in row and not _finite(row[key])]
            if bad:
                yield Finding(
                    "not_finite",
                    "problem",
                    f"{title}: {key} is not a number in {len(bad)} logged steps, first at step "
                    f"{bad[0]}.",
                )
        norms = _values(rows, "grad_norm")
        if norms and max(norms) == 0:
            yield Finding("no_gradient", "problem", f"{title}: the gradient is zero throughout.")
        yield from _rewarded(title, rows) if is_rl(rows) else _fitted(title, rows)


def _fitted(title: str, rows: Sequence[Mapping]) -> Iterator[Finding]:
    losses = _values(rows, "loss")
    if len(losses) >= 5 and _tail(losses) >= _head(losses):
        yield Finding(
            "loss_not_falling",
            "problem",
            f"{title}: the loss does not fall ({_head(losses):.3g} to {_tail(losses):.3g}).",
        )


def _rewarded(title: str, rows: Sequence[Mapping]) -> Iterator[Finding]:
    rewards = _values(rows, "reward")
    if len(rewards) >= 5 and _tail(rewards) - _head(rewards) < REWARD_MOVED:
        yield Finding(
            "reward_flat",
            "warning",
            f"{title}: the reward does not rise ({_head(rewards):.3f} to {_tail(rewards):.3f}).",
        )
    spread = _values(rows, "frac_reward_zero_std")
    if spread and math.fsum(spread) / len(spread) > ZERO_SPREAD_AT_MOST:
        yield Finding(
            "no_spread",
            "warning",
            f"{title}: {math.fsum(spread) / len(spread):.0%} of the groups have the same "
            "reward for every completion and teach nothing.",
        )
    clipped = _values(rows, "completions/clipped_ratio")
    if clipped and _tail(clipped) > CLIPPED_AT_MOST:
        yield Finding(
            "cut_off",
            "warning",
            f"{title}: {_tail(clipped):.0%} of the completions at the end of training are cut off "
            "at the length limit.",
        )


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _values(rows: Sequence[Mapping], key: str) -> list[float]:
    return [row[key] for row in rows if key in row and _finite(row[key])]


def _head(values: Sequence[float]) -> float:
    n = max(1, len(values) // 5)
    return math.fsum(values[:n]) / n


def _tail(values: Sequence[float]) -> float:
    n = max(1, len(values) // 5)
    return math.fsum(values[-n:]) / n
