"""The trainer's log, step by step."""

import json
import math
from pathlib import Path
from typing import Any


def parse_log_line(line: bytes) -> dict[str, Any] | None:
    """Return a logged step: ``step``, ``max_steps`` and its figures, or None for other lines.

    Figures that are not finite become ``None``. ms-swift writes ``"global_step/max_steps":
    "5/420"``; a line that a kill cut short is passed over.
    """
    try:
        row = json.loads(line)  # the standard module reads NaN and Infinity, which torch logs
    except ValueError:
        return None
    place = row.get("global_step/max_steps") if isinstance(row, dict) else None
    if not isinstance(place, str) or "loss" not in row:
        return None
    step, _, total = place.partition("/")
    figures = {
        name: value if math.isfinite(value) else None
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return {"step": int(step), "max_steps": int(total), **figures}


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Return the logged steps in order; a step logged again after a resume counts once, the last.

    An empty list when there is no log.
    """
    if not path.exists():
        return []
    steps: dict[int, dict[str, Any]] = {}
    for line in path.read_bytes().splitlines():
        row = parse_log_line(line)
        if row:
            steps[row["step"]] = row
    return [steps[s] for s in sorted(steps)]
