"""LMM-R1's rule-based rewards for mathematics (TideDra/lmm-r1)."""

import re
from collections.abc import Sequence
from typing import Any

from omnistage.rewards.answers import choice
from omnistage.rewards.columns import column, gold_answer, log_parsed, tag_form, tagged
from omnistage.rewards.mathematics import read, same

_JOINTS = (re.compile(r"</think>\s*<answer>"),)
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_LETTER = re.compile(r"[A-H]")
_NAMED = re.compile(r"(?:[Oo]ption|[Cc]hoice)\s*\(?([A-H])\)?[.:]?")
_LEADING = re.compile(r"\(?([A-H])(?:\)|[.:])\s+(?!.*\b[A-H]\s*[:=])\S.*", re.DOTALL)
"""A gold such as "A. 5 cm", which names an option by its letter and its text."""
_SAID = re.compile(r"\b[Aa]nswer\s*(?:is\s*:?|:)\s*(?:[Oo]ption|[Cc]hoice)?\s*\(?([A-H])\b(?!')")


def lmm_math(completions: Sequence[str], **columns: Any) -> list[float | None]:
    r"""Pay for an answer that equals the gold one as mathematics, 0 or 1.

    Published (LMM-R1): 1 if math-verify finds in the response what equals the gold answer, else 0.
    Here math-verify compares what :mod:`omnistage.rewards.mathematics` reads in the ``<answer>``,
    or in the whole completion without one.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | an unparsable or missing gold | 1 | None | it says nothing about the completion |
    | an error of math-verify | 1 | 0 | nothing was found equal |
    | several expressions | boxed, else the first | boxed, else the last | an answer comes last |
    | ``2√{3}``, ``9πcm^{2}``, ``1.5e3`` | 2, 9πcm², 1.5·e·3 | 2√3, 9π, 1500 | what is meant |
    | no unit, or another of the kind | as the letters fall | by value | 100 cm is 1 m |
    | a gold of one letter | a variable | a choice: ``(B)``, ``B. 45`` | what is meant |
    | no LaTeX in the answer | 0 | read all the same | 42 is 42 |

    Example:
        >>> lmm_math(["<think>t</think><answer>$2\\sqrt{3}$</answer>"], solution=["2√{3}"])
        [1.0]
        >>> lmm_math(["<answer>2</answer>", "9π"], solution=["2√{3}", "9πcm^{2}"])
        [0.0, 1.0]
        >>> lmm_math(["2"], solution=["(see the figure)"])
        [None]
    """
    size = len(completions)
    golds = [gold_answer(solution) for solution in column(columns, "solution", size)]
    found = [tagged(text, "answer") for text in completions]
    answers = [
        text if inner is None else inner for text, inner in zip(completions, found, strict=True)
    ]
    log_parsed(columns, "answer", [q[0].latex if (q := read(text)) else "" for text in answers])
    return [_math(gold, answer) for gold, answer in zip(golds, answers, strict=True)]


def _math(gold: str | None, answer: str) -> float | None:
    if gold is None:
        return None
    if _LETTER.fullmatch(gold) and gold in _letters(answer):
        return 1.0
    if (led := _LEADING.fullmatch(gold)) and _LETTER.fullmatch(choice(answer)):
        return float(choice(answer) == led[1])
    equal = same(gold, answer)
    return None if equal is None else float(equal)


def _letters(answer: str) -> list[str]:
    """Return the options that an answer may mean."""
    named = _NAMED.fullmatch(answer.strip())
    return [choice(answer), *([named[1]] if named else []), *_SAID.findall(answer)[-1:]]


def lmm_format(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for ``<think>…</think><answer>…</answer>`` with each tag exactly once, 0 or 1.

    Published (LMM-R1): the same, added to the accuracy with weight .5; set that as the weight.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | white space between the parts | 0 | ignored | it is no other form |
    | ``</think>`` within the answer | 1 | 0 | each tag stands once |

    Example:
        >>> lmm_format(["<think>t</think><answer>2</answer>", "<answer>2</answer>"])
        [1.0, 0.0]
    """
    return [
        tag_form(text, "<think>", _JOINTS, "</answer>")
        if all(text.count(tag) == 1 for tag in _TAGS)
        else 0.0
        for text in completions
    ]
