"""OmniCritic-R1's rewards for verdicts (arXiv 2602.00846): ``mm_format`` and ``mm_content``.

The formulas are the published ones; what differs from the published code, on purpose:

* A Markdown fence costs ``mm_format`` its "valid JSON" part (.20) and nothing else, and
  ``mm_content`` reads inside the fence: a right verdict in a fence is not graded as unreadable.
* A JSON list, number, string or null is an unreadable verdict; it does not raise.
* Gold taken from ``solution`` is each sample's own, not the first sample's.
* A sample without gold is left out (None) instead of graded -1.
* True and false are no scores; text after the tagged verdict spoils it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from omnistage.records.verdict import (
    BETTER,
    VERDICT_KEYS,
    VerdictError,
    has_exact_fields,
    has_think_tag,
    parse_verdict,
    read_object,
    read_score,
    verdict_letter,
)
from omnistage.rewards.columns import column

UNREADABLE = -1.0
_KEYS = frozenset(VERDICT_KEYS)
_DIRECTION, _CLOSENESS = 0.6, 0.4


@dataclass(frozen=True, slots=True)
class Gold:
    """The annotator's judgement of one sample."""

    score_a: int
    score_b: int
    better: str


@lru_cache(maxsize=4096)
def read_verdict_object(completion: str) -> tuple[Mapping[str, Any] | None, bool]:
    """Return the JSON object that a completion is, or None, and whether it stood in a fence.

    Kept for a batch, since each of a mix's rewards asks for it; not to be changed.
    """
    try:
        return read_object(completion)
    except VerdictError:
        return None, False


def mm_format(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for the verdict's form, 0 to 1.

    .20 valid JSON without a fence + .20 exactly the five keys + .15 integer scores 0..10 and an
    allowed ``better`` + .15 reasoning starts with ``<think>…</think>`` + .15 tagged verdict +
    .15 its letter equals ``better``. Text that is no JSON object earns 0.
    """
    return [_format(completion) for completion in completions]


def _format(completion: str) -> float:
    fields, fenced = read_verdict_object(completion)
    if fields is None:
        return 0.0
    letter = verdict_letter(fields.get("final_verdict"))
    hundredths = (
        20 * (not fenced)
        + 20 * (fields.keys() == _KEYS)
        + 15 * has_exact_fields(fields)
        + 15 * has_think_tag(fields.get("reasoning"))
        + 15 * (letter is not None)
        + 15 * (letter is not None and letter == fields.get("better"))
    )
    return hundredths / 100


def mm_content(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for the right winner and for scores close to the annotator's, -1 to 1.

    -1 if the verdict is unreadable or its ``better`` contradicts its scores; else
    ``.6 * direction + .4 * (1 - 2 * (|dA| + |dB|) / 20)`` with direction +1 if ``better`` equals
    the gold one (``equal`` included) and -1 if not. Scores are cast to integers and clipped to
    0..10.

    Gold comes from the columns ``better``, ``score_A`` and ``score_B``, and where one is missing
    or not usable from that sample's ``solution`` (JSON text or object). Without gold: None.
    """
    return [
        None if gold is None else _content(completion, gold)
        for completion, gold in zip(completions, gold_rows(columns, len(completions)), strict=True)
    ]


def _content(completion: str, gold: Gold) -> float:
    fields, _ = read_verdict_object(completion)
    if fields is None:
        return UNREADABLE
    try:
        verdict = parse_verdict(fields)
    except VerdictError:
        return UNREADABLE
    if not verdict.consistent:
        return UNREADABLE
    distance = abs(verdict.score_a - gold.score_a) + abs(verdict.score_b - gold.score_b)
    direction = 1 if verdict.better == gold.better else -1
    return _DIRECTION * direction + _CLOSENESS * (1 - distance / 10)


def gold_rows(columns: dict[str, Any], size: int) -> list[Gold | None]:
    """Return each sample's gold judgement, or None where there is none."""
    names = ("score_A", "score_B", "better", "solution")
    rows = zip(*(column(columns, name, size) for name in names), strict=True)
    return [_gold(*row) for row in rows]


def _gold(score_a: object, score_b: object, better: object, solution: object) -> Gold | None:
    a, b = read_score(score_a), read_score(score_b)
    winner = better if isinstance(better, str) and better in BETTER else None
    if a is None or b is None or winner is None:
        if not isinstance(solution, str | dict):
            return None
        try:
            verdict = parse_verdict(solution)
        except VerdictError:
            return None
        a = verdict.score_a if a is None else a
        b = verdict.score_b if b is None else b
        winner = winner or verdict.better
    return Gold(a, b, winner)
