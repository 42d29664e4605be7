"""HumanOmniV2's rewards: format, accuracy by kind of problem, context and logic by an LLM judge.

The published code takes the first row's kind of problem for the whole batch; here each row has
its own.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from omnistage.rewards.answers import (
    choice,
    choices,
    closeness,
    same_number,
    set_f1,
    text_accuracy,
    yes_no,
)
from omnistage.rewards.columns import column, gold_answer, tag_form, tagged
from omnistage.rewards.served.chat import CONSISTENCY, COVERAGE, RATIONALITY, LLMJudge

_JOINTS = (re.compile(r"</context>\s*<think>"), re.compile(r"</think>\s*<answer>"))


def _choice(gold: str, answer: str) -> float:
    return float(choice(gold) == choice(answer))


def _yes_no(gold: str, answer: str) -> float | None:
    wanted = yes_no(gold)
    return None if wanted is None else float(yes_no(answer) == wanted)


def _sets(gold: str, answer: str) -> float | None:
    wanted = choices(gold)
    return set_f1(wanted, choices(answer)) if wanted else None


_GRADERS: dict[str, Callable[[str, str], float | None]] = {
    "multiple choice": _choice,
    "choice": _choice,
    "numerical": same_number,
    "numeric": same_number,
    "ocr": text_accuracy,
    "regression": closeness,
    "emer ov": _sets,
    "emer ov mc": _sets,
    "multi choice": _sets,
    "judge": _yes_no,
    "yes no": _yes_no,
}
_FREE_FORM = "free form"


def humanomni_format(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for ``<context>…</context><think>…</think><answer>…</answer>`` as a whole, 0 or 1.

    Published (HumanOmniV2): the three parts at the start, white space between them allowed.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | text behind the answer | ignored | 0 | it may be another answer |
    | white space before it | 0 | ignored | it is no other form |

    Example:
        >>> whole = "<context>c</context><think>t</think> <answer>b</answer>"
        >>> humanomni_format([whole, "<think>t</think><answer>b</answer>"])
        [1.0, 0.0]
    """
    return [tag_form(text, "<context>", _JOINTS, "</answer>") for text in completions]


def humanomni_accuracy(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for the ``<answer>`` by the row's ``problem_type``, 0 to 1.

    Published (HumanOmniV2): multiple choice: the same text. Numerical: equal to 2 decimals. OCR:
    1 - word error rate. Regression: 1 - min(1, relative error). emer_ov_mc: F1 of the two sets of
    labels. Judge: the same yes or no. Free-form: the LLM judge's score / 5.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | problem types in a batch | the first row's for all | each row's own | a batch has many |
    | first or last ``<answer>`` | the first | the last | a thought may quote the tag |
    | ``(b)`` or ``B. dog`` for B | 0 | 1 | it is the same choice |
    | 3 for 3.0 | 0 | 1 | it is the same number |
    | numbers of more digits than a float has | equal | compared exactly | they differ |
    | ``a, b`` for ``a,b`` | other labels | the same labels | the space says nothing |
    | emer_ov | 0, for its function is missing | as emer_ov_mc | as the text says |
    | yes or no within a word | counts | does not | "know" is no "no" |
    | no gold, another problem type | 0 | None | it says nothing about the completion |

    Raises:
        InputError: If there is a free-form row and no judge is set (``OMNISTAGE_JUDGE_URL``).
        TransientError: If the judge does not answer.

    Example:
        >>> kinds = {"problem_type": ["multiple choice", "numerical", "emer_ov"]}
        >>> texts = [f"<answer>{a}</answer>" for a in ("(b)", "3.141", "calm")]
        >>> rewards = humanomni_accuracy(texts, solution=["B", "3.14", "happy, calm"], **kinds)
        >>> [round(reward, 2) for reward in rewards]
        [1.0, 1.0, 0.67]
    """
    size = len(completions)
    golds = [gold_answer(solution) for solution in column(columns, "solution", size)]
    kinds = [_kind(value) for value in column(columns, "problem_type", size)]
    answers = [tagged(completion, "answer") for completion in completions]
    rewards: list[float | None] = []
    for kind, gold, answer in zip(kinds, golds, answers, strict=True):
        grader = _GRADERS.get(kind)
        if gold is None or (grader is None and kind != _FREE_FORM):
            rewards.append(None)
        else:
            rewards.append(grader(gold, answer or "") if grader else 0.0)
    asked = [i for i in range(size) if kinds[i] == _FREE_FORM and golds[i] and answers[i]]
    _grade(rewards, asked, CONSISTENCY, [(golds[i] or "", answers[i] or "") for i in asked])
    return rewards


def _kind(value: object) -> str:
    return re.sub(r"[\s_-]+", " ", value.strip().lower()) if isinstance(value, str) else ""


def humanomni_context(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for how well ``<context>`` covers that of the ``solution``, by the LLM judge, 0 to 1.

    Published (HumanOmniV2): a score 0..5, over 5, from a judge with a prompt of their own; the code
    computes it and does not use it.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | the score | not used | paid | as the text says |
    | no context in the completion | asked all the same | 0 | there is nothing to judge |
    | no context in the solution, no score in the reply | 0 | None | nothing was judged |

    The judge is set by ``OMNISTAGE_JUDGE_URL`` and ``OMNISTAGE_JUDGE_MODEL``, or ``grpo.judge``.

    Raises:
        InputError: If a row needs the judge and none is set.
        TransientError: If the judge does not answer.

    Example:
        >>> humanomni_context(["a dog", "x"], solution=["<context>a dog</context>", "no context"])
        [0.0, None]
    """
    solutions = column(columns, "solution", len(completions))
    golds = [tagged(s, "context") if isinstance(s, str) else None for s in solutions]
    found = [tagged(completion, "context") for completion in completions]
    rewards: list[float | None] = [0.0 if gold else None for gold in golds]
    asked = [i for i in range(len(completions)) if golds[i] and found[i]]
    _grade(rewards, asked, COVERAGE, [(golds[i] or "", found[i] or "") for i in asked])
    return rewards


def humanomni_logical(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for reasoning drawn from the evidence: the LLM judge on ``<think>``, 0 to 1.

    Published (HumanOmniV2): a score 0..5, over 5; the code computes it and does not use it. The
    evidence is the completion's own ``<context>``.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | the score | not used | paid | as the text says |
    | context or thought missing | asked all the same | 0 | there is nothing to judge |

    Raises:
        InputError: If a row needs the judge and none is set.
        TransientError: If the judge does not answer.

    Example:
        >>> humanomni_logical(["<think>It barks.</think>"])
        [0.0]
    """
    parts = [(tagged(c, "context") or "", tagged(c, "think") or "") for c in completions]
    rewards: list[float | None] = [0.0] * len(completions)
    asked = [i for i, (context, reasoning) in enumerate(parts) if context and reasoning]
    _grade(rewards, asked, RATIONALITY, [parts[i] for i in asked])
    return rewards


def _grade(
    rewards: list[float | None],
    asked: list[int],
    template: str,
    pairs: list[tuple[str, str]],
) -> None:
    """Put the judge's scores in the places asked for; without such a place no judge is needed."""
    if asked:
        for i, score in zip(
            asked, LLMJudge.from_environment().scores(template, pairs), strict=True
        ):
            rewards[i] = score
