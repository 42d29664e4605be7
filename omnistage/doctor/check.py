"""What a check of ``omnistage doctor`` is, and how checks are printed.

Each is a line: ``ok``; ``warn``, when it works without or could not be checked; or ``fail``, with
what to do.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import orjson

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """What was checked and found."""

    name: str
    level: Level
    found: str
    advice: str = ""
    """What to do; of a check that is not ok."""


def ok(name: str, found: str) -> Check:
    """Return a check that passed."""
    return Check(name, "ok", found)


def warn(name: str, found: str, advice: str) -> Check:
    """Return a check that found nothing that stops a run, or could not look."""
    return Check(name, "warn", found, advice)


def fail(name: str, found: str, advice: str) -> Check:
    """Return a check that failed."""
    return Check(name, "fail", found, advice)


def report(checks: Sequence[Check], as_json: bool, say: Callable[[str], None] = print) -> int:
    """Print checks and return the exit code: 2 if one failed.

    Args:
        checks: To print.
        as_json: As one JSON list instead of lines.
        say: Prints.
    """
    if as_json:
        say(orjson.dumps([asdict(c) for c in checks], option=orjson.OPT_INDENT_2).decode())
    else:
        width = max(len(c.name) for c in checks)
        for check in checks:
            say(f"{check.level:<4}  {check.name:<{width}}  {check.found}")
            if check.advice:
                say(f"{'':{6 + width}}  → {check.advice}")
    return 2 if any(c.level == "fail" for c in checks) else 0
