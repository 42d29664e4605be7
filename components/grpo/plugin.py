"""Registers the rewards with ms-swift; passed to it as ``--external_plugins``.

ms-swift imports this file by path and puts its folder in front of ``sys.path``, so the rewards
are imported by their full name: the folder that holds ``components`` must be on ``PYTHONPATH`` or
the package installed.
"""

from collections.abc import Sequence
from typing import Any

from swift.rewards import ORM, orms

from omnistage.rewards import METRIC_NAMES, REWARDS, RewardFunction


def orm_class(metric_name: str, reward: RewardFunction) -> type[ORM]:
    """Return the class ms-swift wants; it names the curve ``rewards/<class name>/mean``."""

    def call(self: ORM, completions: Sequence[str], **columns: Any) -> list[float | None]:
        return reward(completions, **columns)

    return type(metric_name, (ORM,), {"__call__": call, "__doc__": reward.__doc__})


orms.update({name: orm_class(METRIC_NAMES[name], reward) for name, reward in REWARDS.items()})
