"""R1-Omni's rewards for emotion recognition (HumanMLLM/R1-Omni)."""

import re
from collections.abc import Sequence
from typing import Any

from omnistage.rewards.columns import column, gold_answer, tag_form, tagged

_JOINTS = (re.compile(r"</think>\s*<answer>"),)


def r1omni_accuracy(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for an ``<answer>`` that is exactly the gold label, 0 or 1.

    Published (R1-Omni): exact match of the answer. The gold label is the ``<answer>`` in
    ``solution``, or all of it. Space around is ignored, letter case is not.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | of several ``<answer>`` | not said | the last | a thought may quote the tag |
    | no ``<answer>`` | not said | 0 | the form is asked for |
    | no gold | not said | None | it says nothing about the completion |

    Example:
        >>> texts = ["<answer> happy </answer>", "<answer>Happy</answer>"]
        >>> r1omni_accuracy(texts, solution=["<answer>happy</answer>"] * 2)
        [1.0, 0.0]
    """
    solutions = column(columns, "solution", len(completions))
    golds = [gold_answer(solution) for solution in solutions]
    return [
        None if gold is None else float(tagged(completion, "answer") == gold)
        for completion, gold in zip(completions, golds, strict=True)
    ]


def r1omni_format(completions: Sequence[str], **columns: Any) -> list[float | None]:
    r"""Pay for ``<think>…</think>\s*<answer>…</answer>`` as the whole completion, 0 or 1.

    Published (R1-Omni): a full match.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | white space around it | 0 | ignored | a last line break is no other form |

    Example:
        >>> r1omni_format(["<think>t</think>\n<answer>b</answer>", "<answer>b</answer>"])
        [1.0, 0.0]
    """
    return [tag_form(text, "<think>", _JOINTS, "</answer>") for text in completions]
