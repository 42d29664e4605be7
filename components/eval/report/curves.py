"""Which figures of a training log are drawn, under which names and units."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from components.eval.report.charts import Curve, line_chart
from components.eval.report.data import title_of

_LOSS = ("loss", "Loss", "loss")
_GRADIENT = ("grad_norm", "Gradient norm", "L2 norm")
_FIGURES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "sft": (
        _LOSS,
        ("token_acc", "Token accuracy", "share of tokens"),
        ("rewards/accuracies", "Right answers preferred", "share of pairs"),  # of DPO
        _GRADIENT,
    ),
    "grpo": (
        ("completions/mean_length", "Completion length", "tokens"),
        ("completions/clipped_ratio", "Completions cut off", "share"),
        ("frac_reward_zero_std", "Groups without spread", "share of groups"),
        ("kl", "KL to the reference", "nats per token"),
        ("rollout_correction/k3_kl", "KL of rollout to trainer", "nats per token"),
        _LOSS,
        _GRADIENT,
    ),
}
_SHARES = {"token_acc", "rewards/accuracies", "completions/clipped_ratio", "frac_reward_zero_std"}
_REWARD = re.compile(r"rewards/(?P<name>.+)/mean")
_REWARD_MIN_SPAN = 0.2


@dataclass(frozen=True)
class Panel:
    """The charts of one training stage.

    Attributes:
        title: The stage as people call it.
        charts: Title, first and last value in words, and drawing of each figure.
    """

    title: str
    charts: Sequence[tuple[str, str, Markup]]


def panels(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Panel]:
    """Return the charts of every training step that logged something that can be drawn."""
    drawn = []
    for name, rows in curves.items():
        stage = "grpo" if is_rl(rows) else "sft"
        charts = [
            (
                curve.title,
                "{:.3g} → {:.3g}".format(*curve.ends).replace("-", "−"),
                line_chart(curve),
            )
            for curve in _curves(stage, rows)
            if curve.finite
        ]
        if charts:
            drawn.append(Panel(title_of(name), charts))
    return drawn


def is_rl(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a training log is of reinforcement learning: of completions and rewards."""
    own = ("frac_reward", "completions/")
    return any(key == "reward" or key.startswith(own) for row in rows for key in row)


def reward_name(metric: str) -> str:
    """Return the recipe's name of a reward from ms-swift's: ``MMFormat`` is ``mm_format``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", metric).lower()


def _curves(stage: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Curve]:
    if stage == "grpo":
        yield from _reward_curves(rows)
    for key, title, unit in _FIGURES[stage]:
        points = [(row["step"], row[key]) for row in rows if key in row]
        yield Curve(title, unit, points, stage, bounds=(0, 1) if key in _SHARES else None)


def _reward_curves(rows: Sequence[Mapping[str, Any]]) -> Iterator[Curve]:
    named = dict.fromkeys(key for row in rows for key in row if _REWARD.fullmatch(key))
    figures = [("reward", "reward_std", "Total reward, weighted")]
    figures += [
        (key, key.removesuffix("mean") + "std", f"Reward {reward_name(key.split('/')[1])}")
        for key in named
    ]
    for mean, spread, title in figures:
        logged = [row for row in rows if mean in row]
        yield Curve(
            title,
            "mean ± standard deviation" if any(spread in row for row in logged) else "mean",
            [(row["step"], row[mean]) for row in logged],
            "grpo",
            min_span=_REWARD_MIN_SPAN,
            spread=[row.get(spread) for row in logged],
        )
