"""R1-Omni's rewards for emotion recognition (HumanMLLM/R1-Omni)."""

import re
from collections.abc import Sequence
from typing import Any

from omnistage.rewards.columns import column, gold_answer, tag_form, tagged

_JOINTS = (re.compile(r"</think>\s*<answer>"),)


def r1omni_accuracy(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay 1 if the ``<answer>`` is exactly the gold label, else 0; without gold None.

    The gold label is the ``<answer>`` in ``solution``, or all of it. Space around is ignored,
    letter case is not.
    """
    solutions = column(columns, "solution", len(completions))
    golds = [gold_answer(solution) for solution in solutions]
    return [
        None if gold is None else float(tagged(completion, "answer") == gold)
        for completion, gold in zip(completions, golds, strict=True)
    ]


def r1omni_format(completions: Sequence[str], **columns: Any) -> list[float | None]:
    r"""Pay 1 if the whole completion is ``<think>…</think>\s*<answer>…</answer>``, else 0."""
    return [tag_form(text, "<think>", _JOINTS, "</answer>") for text in completions]
