"""OmniCritic-R1's rewards for verdicts (arXiv 2602.00846): ``mm_format`` and ``mm_content``."""

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

    Published (OmniCritic-R1): .20 valid JSON + .20 exactly the five keys + .15 integer scores
    0..10 and an allowed ``better`` + .15 reasoning starts with ``<think>…</think>`` + .15 tagged
    verdict + .15 its letter equals ``better``.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | a JSON list, number, string, null | an error | 0 | it is an unreadable verdict |
    | a fenced answer | 0 | all but the first .20 | the fence is one fault, not six |
    | true or false as a score | an integer | no score | it is none |
    | text behind the tagged verdict | ignored | no tagged verdict | it may take it back |
    | NaN, a lone ``\\ud800`` | read | no JSON | RFC 8259 has neither |
    | more than 1,024 levels of nesting | RecursionError | no JSON | it ended the run |

    Example:
        >>> verdict = '"score_A": 8, "score_B": 3, "better": "A", "reasoning": "<think>A</think>"'
        >>> tag = '"final_verdict": "<answer>[[A]]</answer>"'
        >>> mm_format(["{" + verdict + ", " + tag + "}", "{" + verdict + "}", "{}", "A"])
        [1.0, 0.5, 0.2, 0.0]
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

    Published (OmniCritic-R1): -1 if the verdict is unreadable or its ``better`` contradicts its
    scores; else ``.6 * direction + .4 * (1 - 2 * (|dA| + |dB|) / 20)`` with direction +1 if
    ``better`` equals the gold one (``equal`` included) and -1 if not. Scores are cast to integers
    and clipped to 0..10. Gold comes from the columns ``better``, ``score_A`` and ``score_B``, and
    where one is missing or not usable from that sample's ``solution`` (JSON text or object).

    | case | published | here | why |
    | --- | --- | --- | --- |
    | a fenced answer | -1 | read inside the fence | a right verdict is readable |
    | gold from ``solution`` | the first sample's for all | each sample's own | a batch has many |
    | no gold | -1 | None | it says nothing about the completion |
    | ``"8"`` or ``8.9`` as a score | cast | cast to 8 | the same |
    | NaN, a lone ``\\ud800``, deep nesting | see mm_format | see mm_format | see mm_format |

    Example:
        >>> gold = '{"score_A": 8, "score_B": 3, "better": "A"}'
        >>> wrong = '{"score_A": 5, "score_B": 6, "better": "B"}'
        >>> [round(r, 2) for r in mm_content([gold, wrong, "A"], solution=[gold] * 3)]
        [1.0, -0.44, -1.0]
        >>> mm_content([gold], solution=["?"])
        [None]
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
