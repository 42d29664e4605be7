"""LMM-R1's rule-based rewards for mathematics (TideDra/lmm-r1)."""

import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from components.grpo.rewards.columns import column, gold_answer, matches_whole, tagged

_FORM = re.compile(r"<think>.*</think>\s*<answer>.*</answer>", re.DOTALL)
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_SECONDS = 5


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
    # Only the trainer's environment has math-verify; the reward's name is known everywhere.
    from math_verify import verify

    answer = gold_answer(solution)
    gold = _parse(answer) if answer else ()
    if not gold:
        return None
    inner = tagged(completion, "answer")
    found = _parse(completion if inner is None else inner)
    return float(bool(found) and verify(list(gold), list(found), timeout_seconds=_timeout()))


@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[Any, ...]:
    """Parse an expression as written, or as LaTeX if it is only that when put between dollars."""
    from math_verify import parse

    found = parse(text, parsing_timeout=_timeout())
    if not found and "$" not in text:
        found = parse(f"${text}$", parsing_timeout=_timeout())
    return tuple(found)


def _timeout() -> int:
    """Return math-verify's time limit in seconds, 0 for none.

    The limit is kept by a signal, which only the main thread can use.
    """
    return _SECONDS if threading.current_thread() is threading.main_thread() else 0


def lmm_format(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay 1 for ``<think>…</think><answer>…</answer>`` with each tag exactly once, else 0.

    White space may stand between the two and around them. LMM-R1 weighs it .5 against the
    accuracy; set that as the reward's weight.
    """
    return [
        matches_whole(_FORM, text) if all(text.count(tag) == 1 for tag in _TAGS) else 0.0
        for text in completions
    ]
