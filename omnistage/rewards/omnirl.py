"""OmniRL's rewards for answers in words (alibaba/OmniRL)."""

import math
import re
from collections.abc import Sequence
from typing import Any

from omnistage.rewards.columns import column, gold_answer, tag_form, tagged
from omnistage.rewards.overlap import bleu2, meteor, rouge1, words

_JOINTS = (re.compile("</think>"), re.compile("<answer>"))
_LENGTH, _DECAY = 500, 0.9
_RIGHT = 0.5  # a right answer of one word has .83; one word of two in common has .25


def omnirl_accuracy(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for overlap with the gold answer, 0 to 1.

    Published (OmniRL): the text names a mean of local match, coverage and coherence; the code
    averages BLEU (weights .5, .5) and ROUGE-1 F.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | METEOR | named, not computed | the third part of the mean | as the text says |
    | one word | BLEU 0, for it has no pair | BLEU of the words alone | a right word is right |
    | no ``<answer>`` | not said | 0 | the form is asked for |
    | no gold | not said | None | it says nothing about the completion |

    Texts are compared in lower case without punctuation. A right answer of one word earns .833,
    since METEOR is .5 there.

    Example:
        >>> rewards = omnirl_accuracy(["<answer>A dog.</answer>", "dog"], solution=["a dog"] * 2)
        >>> [round(reward, 3) for reward in rewards]
        [0.979, 0.0]
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
    """Pay for ``<think>…</think>…<answer>…</answer>`` as the whole completion, 0 or 1.

    Published (OmniRL): a full match.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | white space around it | 0 | ignored | a last line break is no other form |
    | hundreds of repeated tags | minutes of matching | linear time | it stops the training |

    Example:
        >>> omnirl_format(["<think>t</think> so <answer>b</answer>", "<answer>b</answer>"])
        [1.0, 0.0]
    """
    return [tag_form(text, "<think>", _JOINTS, "</answer>") for text in completions]


def omnirl_length(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for length up to 500 characters and fade beyond, 0 to 2.

    Published (OmniRL): ``base * .9^(n // 500) * (.5 + .5 * density) / 500`` for n characters, with
    ``base = n (1 + sin(pi n / 1000))`` up to n = 500 and ``1000 + ln(n - 499)`` beyond; density is
    the share of ``,.;!`` among the characters. Here it is the same; an empty completion earns 0.
    It pays for length whatever is said: see ``omnistage rewards audit``.

    Example:
        >>> [round(reward, 3) for reward in omnirl_length(["", "x" * 250, "x" * 500, "x" * 5000])]
        [0.0, 0.427, 0.9, 0.352]
    """
    return [_length(completion) for completion in completions]


def omnirl_length_strict(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for the length of a completion with a right answer, 0 to 2.

    Not published: ``omnirl_length`` pays for length whatever is said, so that a long wrong answer
    earns more than a short one. Here a completion whose ``omnirl_accuracy`` is at most .5 earns
    nothing, and one without a gold answer is not graded.

    Example:
        >>> long = "<think>" + "x" * 400 + "</think><answer>A dog.</answer>"
        >>> rewards = omnirl_length_strict([long] * 2, solution=["a dog", "a cat"])
        >>> [round(reward, 2) for reward in rewards]
        [0.87, 0.0]
    """
    graded = omnirl_accuracy(completions, **columns)
    return [
        None if accuracy is None else _length(text) if accuracy > _RIGHT else 0.0
        for text, accuracy in zip(completions, graded, strict=True)
    ]


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
