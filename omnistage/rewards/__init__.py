"""Every reward by name, with its range.

A reward is called as the trainer calls it, ``reward(completions, **columns)``, and returns one
number a completion, or None to leave that completion out. Reward modules import neither torch
nor the trainer, so a recipe can be checked anywhere; ``components/grpo/plugin.py`` registers them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from omnistage.errors import InputError
from omnistage.rewards import own
from omnistage.rewards.columns import RewardFunction
from omnistage.rewards.grounding import rec_iou, rec_iou_value
from omnistage.rewards.humanomni import (
    humanomni_accuracy,
    humanomni_context,
    humanomni_format,
    humanomni_logical,
)
from omnistage.rewards.lmm_r1 import lmm_format, lmm_math
from omnistage.rewards.omnicritic import mm_content, mm_format
from omnistage.rewards.omnirl import (
    omnirl_accuracy,
    omnirl_format,
    omnirl_length,
    omnirl_length_strict,
)
from omnistage.rewards.r1_omni import r1omni_accuracy, r1omni_format
from omnistage.rewards.rubric import mm_rubric, mm_rubric_strict
from omnistage.rewards.served.client import MODEL_VARIABLE, URL_VARIABLE
from omnistage.rewards.served.critic import omnicritic
from omnistage.rewards.served.reward_server import REWARD_URL_VARIABLE, remote
from omnistage.rewards.successor import integrated_router, mm_format_light, unified_rl

__all__ = [
    "METRIC_NAMES",
    "RANGES",
    "REQUIRED_VARIABLES",
    "REWARDS",
    "RewardFunction",
    "register",
]


@dataclass(frozen=True, slots=True)
class _Reward:
    function: RewardFunction
    low: float
    high: float
    metric: str
    variables: tuple[str, ...] = ()


_JUDGE = (URL_VARIABLE, MODEL_VARIABLE)
_TABLE = {
    "mm_format": _Reward(mm_format, 0, 1, "MMFormat"),
    "mm_content": _Reward(mm_content, -1, 1, "MMContent"),
    "mm_rubric": _Reward(mm_rubric, -1, 1, "MMRubric"),
    "mm_rubric_strict": _Reward(mm_rubric_strict, -1, 1, "MMRubricStrict"),
    "mm_format_light": _Reward(mm_format_light, 0, 1, "MMFormatLight"),
    "unified_rl": _Reward(unified_rl, 0, 1, "UnifiedRL"),
    "integrated_router": _Reward(integrated_router, -0.8, 1, "IntegratedRouter"),
    "omnirl_accuracy": _Reward(omnirl_accuracy, 0, 1, "OmniRLAccuracy"),
    "omnirl_format": _Reward(omnirl_format, 0, 1, "OmniRLFormat"),
    "omnirl_length": _Reward(omnirl_length, 0, 2, "OmniRLLength"),
    "omnirl_length_strict": _Reward(omnirl_length_strict, 0, 2, "OmniRLLengthStrict"),
    "rec_iou": _Reward(rec_iou, 0, 1, "RecIoU"),
    "rec_iou_value": _Reward(rec_iou_value, 0, 1, "RecIoUValue"),
    "lmm_math": _Reward(lmm_math, 0, 1, "LMMMath"),
    "lmm_format": _Reward(lmm_format, 0, 1, "LMMFormat"),
    "r1omni_accuracy": _Reward(r1omni_accuracy, 0, 1, "R1OmniAccuracy"),
    "r1omni_format": _Reward(r1omni_format, 0, 1, "R1OmniFormat"),
    "humanomni_format": _Reward(humanomni_format, 0, 1, "HumanOmniFormat"),
    "humanomni_accuracy": _Reward(humanomni_accuracy, 0, 1, "HumanOmniAccuracy"),
    "humanomni_context": _Reward(humanomni_context, 0, 1, "HumanOmniContext", _JUDGE),
    "humanomni_logical": _Reward(humanomni_logical, 0, 1, "HumanOmniLogical", _JUDGE),
    "omnicritic": _Reward(omnicritic, 0, 1, "OmniCritic", _JUDGE),
    "remote": _Reward(remote, float("-inf"), float("inf"), "RemoteReward", (REWARD_URL_VARIABLE,)),
}

REWARDS: dict[str, RewardFunction] = {name: row.function for name, row in _TABLE.items()}
"""The reward functions by name, and a recipe's own once they are registered."""

RANGES: dict[str, tuple[float, float]] = {name: (row.low, row.high) for name, row in _TABLE.items()}
"""Lowest and highest value of each reward; infinite for a server's or a user's own."""

METRIC_NAMES: dict[str, str] = {name: row.metric for name, row in _TABLE.items()}
"""The name in the trainer's logs: ``rewards/<metric name>/mean``."""

REQUIRED_VARIABLES: dict[str, tuple[str, ...]] = {
    name: row.variables for name, row in _TABLE.items() if row.variables
}
"""Environment variables that a reward cannot work without."""


def register(code: Mapping[str, str]) -> None:
    """Add a recipe's own rewards to the tables, in this process; see :mod:`omnistage.rewards.own`.

    Args:
        code: Name, ``file.py:function``, to the text of the file.

    Raises:
        InputError: If a file cannot be imported, or a curve's name is taken.
    """
    for name, text in code.items():
        metric = own.metric_name(name)
        if any(metric == taken for other, taken in METRIC_NAMES.items() if other != name):
            raise InputError(f"reward {name}: the curve {metric!r} is taken; rename the function")
        REWARDS[name] = own.load(name, text)
        RANGES[name] = (float("-inf"), float("inf"))
        METRIC_NAMES[name] = metric
