"""LMM-R1's rule-based rewards for mathematics (TideDra/lmm-r1)."""

import re
import threading
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

from omnistage.rewards.columns import column, gold_answer, tag_form, tagged

_JOINTS = (re.compile(r"</think>\s*<answer>"),)
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_DELIMITED = re.compile(r"\$|\\boxed|\\\(|\\\[")
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}\s+[A-Za-z]{2,}")
# Per expression; generous, so that a busy machine grades as an idle one does.
_SECONDS = 20
_WARM_UP_SECONDS = 600


def lmm_math(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay 1 for an answer that equals the gold one as mathematics, else 0.

    Checked with math-verify. The answer is the ``<answer>`` if there is one, else the whole
    completion. A gold answer that is missing or cannot be parsed gives None: it says nothing
    about the completion, and would earn 1.0 in the published code.
    """
    solutions = column(columns, "solution", len(completions))
    return [
        _math(completion, solution)
        for completion, solution in zip(completions, solutions, strict=True)
    ]


def _math(completion: str, solution: object) -> float | None:
    answer = gold_answer(solution)
    gold = _parse(answer) if answer else ()
    if not gold:
        return None
    inner = tagged(completion, "answer")
    found = _parse(completion if inner is None else inner)
    _, verify = _math_verify()
    return float(bool(found) and verify(list(gold), list(found), timeout_seconds=_limit(_SECONDS)))


@cache
def _math_verify() -> tuple[Callable[..., Any], Callable[..., bool]]:
    """Return math-verify's ``parse`` and ``verify``, warmed up.

    The first use loads grammars and parts of sympy, which takes seconds and must not count against
    the time limit of the first answers. Imported here because only the trainer's environment has
    math-verify, while the names of the rewards are known everywhere.
    """
    from math_verify import parse, verify

    limit = _limit(_WARM_UP_SECONDS)
    gold, answer = (parse(text, parsing_timeout=limit) for text in ("$x^2 + x$", "$x(x+1)$"))
    verify(gold, answer, timeout_seconds=limit)
    return parse, verify


@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[Any, ...]:
    """Parse the expression that a text is, or holds.

    math-verify looks for LaTeX between dollars and else for a plain number, so that it would read
    a bare ``x^2 + 2x + 1`` as 1: what is not prose and has no delimiters is put between dollars.
    """
    parse, _ = _math_verify()
    bare = not _DELIMITED.search(text) and not _PROSE.search(text)
    return tuple(parse(f"${text}$" if bare else text, parsing_timeout=_limit(_SECONDS)))


def _limit(seconds: int) -> int:
    """Return math-verify's time limit in seconds, 0 for none.

    The limit is kept by a signal, which only the main thread can use.
    """
    return seconds if threading.current_thread() is threading.main_thread() else 0


def lmm_format(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay 1 for ``<think>…</think><answer>…</answer>`` with each tag exactly once, else 0.

    White space may stand between the two and around them. LMM-R1 weighs it .5 against the
    accuracy; set that as the reward's weight.
    """
    return [
        tag_form(text, "<think>", _JOINTS, "</answer>")
        if all(text.count(tag) == 1 for tag in _TAGS)
        else 0.0
        for text in completions
    ]
