"""Registers the rewards with ms-swift; passed to it as ``--external_plugins``.

ms-swift imports this file by path and puts its folder in front of ``sys.path``, so the rewards
are imported by their full name: the folder that holds ``components`` must be on ``PYTHONPATH`` or
the package installed.

**A reward of None.** ms-swift adds a completion's rewards with ``nansum``
(``swift/rl_core/advantage.py``): None counts as 0 there, in the group's mean as well, while the
logged curve leaves it out. A completion that a judge did not grade would so be graded 0. Here it
gets the mean of those of its group that were graded, which adds nothing to its advantage and
leaves the others' as they would be without it; a reward that grades nobody of a group stays None
for all of them. Both are seen in ``tests/components/grpo/test_plugin.py`` on ms-swift's advantages.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

import torch.distributed as dist
from swift.rewards import ORM, orms

from omnistage.rewards import METRIC_NAMES, REWARDS, RewardFunction

TABLE = "rewards.jsonl"
"""In the trainer's output folder: a line a reward and batch of the first process."""


def fill_in(rewards: Sequence[float | None], groups: Sequence[object]) -> list[float | None]:
    """Give each None the mean of its group, or leave None where none of the group is graded.

    Args:
        rewards: A reward's values.
        groups: What each completion belongs to; those of a group stand side by side.
    """
    filled: list[float | None] = []
    for _, places in groupby(range(len(rewards)), key=groups.__getitem__):
        values = [rewards[i] for i in places]
        graded = [value for value in values if value is not None]
        mean = fmean(graded) if graded else None
        filled += [mean if value is None else value for value in values]
    return filled


def over_all_processes(rewards: list[float | None], groups: list[object]) -> list[float | None]:
    """Do what :func:`fill_in` does where a group's completions lie on several processes.

    ms-swift puts the processes' completions one behind the other and cuts that into groups.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return fill_in(rewards, groups)
    everywhere: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, (rewards, groups))
    before = sum(len(part) for part, _ in everywhere[: dist.get_rank()])
    filled = fill_in(
        [value for part, _ in everywhere for value in part],
        [group for _, part in everywhere for group in part],
    )
    return filled[before : before + len(rewards)]


def group_of(args: Any, size: int, columns: Mapping[str, Any]) -> list[object]:
    """Return what each completion belongs to: its record, by the id that every record has."""
    ids = columns.get("id")
    if isinstance(ids, list) and len(ids) == size:
        return ids
    generations = getattr(args, "num_generations", None) or 1
    return [i // generations for i in range(size)]


class Table:
    """What a reward reads out of the completions, for people: lines of ``rewards.jsonl``."""

    def __init__(self, args: Any) -> None:
        first = not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
        folder = getattr(args, "output_dir", None)
        self.path = Path(folder) / TABLE if first and folder else None
        self.columns: dict[str, list[Any]] = {}

    def log(self, name: str, values: list[Any]) -> None:
        """Take a column; what rewards call as ``log_extra``."""
        self.columns[name] = values

    def write(self, reward: str, step: int | None, values: list[float | None]) -> None:
        """Append the batch's values and columns."""
        if self.path and self.columns:
            row = {"step": step, "reward": reward, "values": values, **self.columns}
            # Half a pair of surrogates, which models write, is JSON's own escape then.
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as f:
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.columns = {}


def orm_class(metric_name: str, reward: RewardFunction) -> type[ORM]:
    """Return the class ms-swift wants; it names the curve ``rewards/<class name>/mean``."""

    def call(self: ORM, completions: Sequence[str], **columns: Any) -> list[float | None]:
        table = Table(self.args)
        values = reward(completions, **{**columns, "log_extra": table.log})
        table.write(metric_name, getattr(columns.get("trainer_state"), "global_step", None), values)
        return over_all_processes(values, group_of(self.args, len(completions), columns))

    return type(metric_name, (ORM,), {"__call__": call, "__doc__": reward.__doc__})


orms.update({name: orm_class(METRIC_NAMES[name], reward) for name, reward in REWARDS.items()})
