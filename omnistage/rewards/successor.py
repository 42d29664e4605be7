"""Rewards that OmniCritic's successor (Omni-RRM) adds: short verdicts, point scores, a router."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omnistage.records.verdict import VerdictError, has_exact_fields, read_object
from omnistage.rewards.columns import column, prompt_text
from omnistage.rewards.omnicritic import gold_rows, mm_content, mm_format
from omnistage.rewards.rubric import mm_rubric

_LIGHT_KEYS = {"score_A", "score_B", "better"}
_LIGHT_BANNED = ("<think>", "</think>", "reasoning", "final_verdict")
_LIGHT_LENGTH = 160
_POINT_SCALE = 50.0
_ROUTER_WEIGHTS = {"format": 0.2, "content": 0.6, "rubric": 0.2}

_WINNERS = {"a": "A", "first": "A", "b": "B", "second": "B", "equal": "equal"}
_WINNER = re.compile(
    r'"better"\s*:\s*"(?P<key>A|B|equal|first|second)"'
    r"|\[(?P<tag>A|B|equal|first|second)\]"
    r"|\bbetter(?:\s+response)?\s*[:\-]?\s*(?P<prose>first|second|equal)\b",
    re.IGNORECASE,
)
_SCORE = re.compile(
    r"\b(?:score|rating|grade|points)\s*(?:[:=：-]|\bis\b)\s*(\d{1,3}(?:\.\d{1,6})?)\b(?:\s*/\s*(10|100)\b)?",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,6})?")
_ASKS_FOR_SCORES = re.compile(
    r"score_a\b|only\s+two\s+values|\breceives\s+an?\s[^.\n]{0,80}\bscore\b"
    r"|\brate\b[^.\n]{0,200}\bon\s+a\s+scale\b|\bscore\s*[:：]|\bfinal\s+score\b|\b\d+\s*/\s*100?\b",
    re.IGNORECASE,
)


def mm_format_light(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for a three-key verdict without reasoning, 0 to 1.

    Published (Omni-RRM): .30 valid JSON without a fence + .25 exactly ``score_A``, ``score_B``,
    ``better`` + .25 integer scores 0..10 and an allowed ``better`` + .10 no trace of the long
    format (``<think>``, ``reasoning``, ``final_verdict``) + .10 at most 160 characters.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | an empty answer | .20 for the last two | 0 | they are paid for a JSON object only |

    Example:
        >>> mm_format_light(['{"score_A": 8, "score_B": 3, "better": "A"}', ""])
        [1.0, 0.0]
    """
    return [_format_light(completion) for completion in completions]


def _format_light(completion: str) -> float:
    try:
        fields, fenced = read_object(completion)
    except VerdictError:
        return 0.0
    lowered = completion.lower()
    hundredths = (
        30 * (not fenced)
        + 25 * (set(fields) == _LIGHT_KEYS)
        + 25 * has_exact_fields(fields)
        + 10 * (not any(word in lowered for word in _LIGHT_BANNED))
        + 10 * (len(completion) <= _LIGHT_LENGTH)
    )
    return hundredths / 100


def unified_rl(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for the right winner or for a close score, whichever the sample's gold is, 0 to 1.

    Published (Omni-RRM): of a pair (``better`` from that column or from ``solution``) 1 if the
    winner is the gold one, else 0. Of a point (a score 0..100 in ``solution``; ``9/10`` is 90)
    ``max(0, 1 - |d| / 50)``, 0 without a score.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | no gold | not said | None | it says nothing about the completion |

    Example:
        >>> unified_rl(['{"better": "A"}', "Score: 80"], solution=['{"better": "A"}', "Score: 90"])
        [1.0, 0.8]
    """
    size = len(completions)
    return [
        _unified(completion, better, solution)
        for completion, better, solution in zip(
            completions,
            column(columns, "better", size),
            column(columns, "solution", size),
            strict=True,
        )
    ]


def _unified(completion: str, better: object, solution: object) -> float | None:
    winner = _gold_winner(better, solution)
    if winner is not None:
        return float(read_winner(completion) == winner)
    gold = read_points(solution)
    if gold is None:
        return None
    points = read_points(completion)
    return 0.0 if points is None else max(0.0, 1.0 - abs(points - gold) / _POINT_SCALE)


def integrated_router(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Choose the reward by what the prompt asks for, -0.8 to 1.

    Published (Omni-RRM): a prompt that asks for scores pays ``.2 * mm_format + .6 * mm_content +
    .2 * mm_rubric``; one that asks only for the better candidate 1 if the winner is right, else 0.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | no prompt (column ``messages``) | not said | scored, if the gold has both scores | it can be |
    | no gold | not said | None | it says nothing about the completion |
    | its parts | as published | as here | see mm_format, mm_content and mm_rubric |

    Example:
        >>> asked = [[{"role": "user", "content": "Which is better?"}]]
        >>> integrated_router(["better: first"], messages=asked, better=["A"])
        [1.0]
    """
    size = len(completions)
    messages = column(columns, "messages", size)
    golds = gold_rows(columns, size)
    betters, solutions = column(columns, "better", size), column(columns, "solution", size)
    scored_rewards = _scored(completions, columns)
    rewards: list[float | None] = []
    for i, completion in enumerate(completions):
        prompt = prompt_text(messages[i])
        scored = bool(_ASKS_FOR_SCORES.search(prompt)) if prompt else golds[i] is not None
        winner = _gold_winner(betters[i], solutions[i])
        if scored:
            rewards.append(scored_rewards[i])
        else:
            rewards.append(None if winner is None else float(read_winner(completion) == winner))
    return rewards


def _scored(completions: Sequence[str], columns: dict[str, Any]) -> list[float | None]:
    parts = {
        "format": mm_format(completions, **columns),
        "content": mm_content(completions, **columns),
        "rubric": mm_rubric(completions, **columns),
    }
    rewards: list[float | None] = []
    for i in range(len(completions)):
        values = {name: rewards_of[i] for name, rewards_of in parts.items()}
        known = [_ROUTER_WEIGHTS[name] * v for name, v in values.items() if v is not None]
        rewards.append(sum(known) if len(known) == len(values) else None)
    return rewards


def _gold_winner(better: object, solution: object) -> str | None:
    winner = read_winner(better)
    return read_winner(solution) if winner is None else winner


def read_winner(value: object) -> str | None:
    """Return ``A``, ``B`` or ``equal`` as said by a verdict object, its JSON or plain words.

    Read are ``better`` of a JSON object, ``"better": "A"`` in broken JSON, ``[A]`` or ``[first]``,
    ``better: first``, and the bare word. None if no winner is named.
    """
    if isinstance(value, Mapping):
        return _WINNERS.get(str(value.get("better")).strip().lower())
    if not isinstance(value, str):
        return None
    try:
        fields, _ = read_object(value)
    except VerdictError:
        match = _WINNER.search(value)
        said = next(filter(None, match.groups()), "") if match else value
        return _WINNERS.get(said.strip().lower())
    return read_winner(fields)


def read_points(value: object) -> float | None:
    """Return a score from 0 to 100 said by an object, its JSON, ``Score: 9/10`` or a last line.

    Returns:
        The score, clipped to 0..100, or None if none is found.
    """
    if isinstance(value, Mapping):
        fields = {str(key).lower(): item for key, item in value.items()}
        return read_points(fields.get("score", fields.get("rating")))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(max(0, min(100, value))) if value == value else None
    if not isinstance(value, str):
        return None
    try:
        fields, _ = read_object(value)
    except VerdictError:
        return _points_in_prose(value)
    return read_points(fields)


def _points_in_prose(text: str) -> float | None:
    match = _SCORE.search(text)
    if match:
        scale = 10.0 if match.group(2) == "10" else 1.0
        return min(100.0, scale * float(match.group(1)))
    lines = text.split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return min(100.0, float(last)) if _NUMBER.fullmatch(last) else None
