"""GPU hours of what led to a report, and what they cost at a given price."""

import math
from collections.abc import Mapping
from typing import Any

from components.eval.report.data import ReportData, StageRun


def gpu_hours(stage: StageRun) -> float | None:
    """Return the hours of a stage times the GPUs that it held; ``None`` when unknown."""
    if stage.seconds is None or "gpus" not in stage.machine:
        return None
    return stage.seconds * stage.machine["gpus"] / 3600


def gpu_cost(data: ReportData) -> dict[str, Any] | None:
    """Return ``gpu_hours`` of all stages and their ``total`` at a price.

    Only the attempt of a stage that finished is counted, not those that were killed before.

    Returns:
        With ``unknown``, the stages whose time or machine is not known, ``per_gpu_hour`` and
        ``currency``; ``total`` is ``None`` without a price. ``None`` where nothing is known.
    """
    hours = {stage.name: gpu_hours(stage) for stage in data.stages}
    known = [value for value in hours.values() if value is not None]
    if not known:
        return None
    total, price = math.fsum(known), data.cost_per_gpu_hour
    return {
        "gpu_hours": total,
        "unknown": [name for name, value in hours.items() if value is None],
        "per_gpu_hour": price,
        "currency": data.currency,
        "total": None if price is None else total * price,
    }


def cost_in_words(cost: Mapping[str, Any]) -> str:
    """Return GPU hours and their cost as a phrase."""
    words = f"{cost['gpu_hours']:,.2f}, of the attempts that finished"
    if cost["unknown"]:
        words += f"; not known of {', '.join(cost['unknown'])}"
    if cost["total"] is not None:
        price = f"{cost['per_gpu_hour']:,g} {cost['currency']}".strip()
        words += f"; {cost['total']:,.2f} {cost['currency']}".rstrip() + f" at {price} an hour"
    return words


def machine_in_words(machine: Mapping[str, Any]) -> str:
    """Return a stage's machine as a phrase, such as ``2 nodes, 16 × NVIDIA H200``."""
    if not machine:
        return "–"
    nodes = f"{machine['nodes']} nodes, " if machine["nodes"] > 1 else ""
    if not machine["gpus"]:
        return f"{nodes}{machine['cpus']} CPU{'s' if machine['cpus'] != 1 else ''}"
    return f"{nodes}{machine['gpus']} × {machine['gpu'] or 'GPU'}"
