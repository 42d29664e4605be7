"""OmniRL's rewards for answers in words (alibaba/OmniRL)."""

import math
import re
from collections.abc import Sequence
from typing import Any

from omnistage.rewards.columns import column, gold_answer, tag_form, tagged
from omnistage.rewards.overlap import bleu2, meteor, rouge1, words

_JOINTS = (re.compile("</think>"), re.compile("<answer>"))
_LENGTH, _DECAY = 500, 0.9


def omnirl_accuracy(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for overlap with the gold answer, 0 to 1: mean of BLEU-2, ROUGE-1 F and METEOR.

    The published text names three parts (local match, coverage, coherence), its code averages the
    first two; here it is all three. Texts are compared in lower case without punctuation; a right
    answer of one word earns .833, since METEOR is .5 there. No ``<answer>``: 0. No gold: None.
    """
    solutions = column(columns, "solution", len(completions))
    return [
        _overlap(completion, solution)
        for completion, solution in zip(completions, solutions, strict=True)
    ]


def _overlap(completion: str, solution: object) -> float | None:
    gold = words(gold_answer(solution) or "")
    if not gold:
        return None
    answer = words(tagged(completion, "answer") or "")
    return (bleu2(gold, answer) + rouge1(gold, answer) + meteor(gold, answer)) / 3


def omnirl_format(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay 1 if the whole completion is ``<think>…</think>…<answer>…</answer>``, else 0."""
    return [tag_form(text, "<think>", _JOINTS, "</answer>") for text in completions]


def omnirl_length(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for length up to 500 characters and fade beyond, 0 to 2.

    ``base * .9^(n // 500) * (.5 + .5 * density) / 500`` for n characters, with
    ``base = n (1 + sin(pi n / 1000))`` up to n = 500 and ``1000 + ln(n - 499)`` beyond; density
    is the share of ``,.;!`` among the characters.
    """
    return [_length(completion) for completion in completions]


def _length(completion: str) -> float:
    n = len(completion)
    if n == 0:
        return 0.0
    density = sum(completion.count(mark) for mark in ",.;!") / n
    if n <= _LENGTH:
        base = n * (1 + math.sin(math.pi * n / (2 * _LENGTH)))
    else:
        base = 2 * _LENGTH + math.log(n - _LENGTH + 1)
    return base * _DECAY ** (n // _LENGTH) * (0.5 + 0.5 * density) / _LENGTH
