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
    """Pay 1 for ``<context>…</context><think>…</think><answer>…</answer>`` as a whole, else 0."""
    return [tag_form(text, "<context>", _JOINTS, "</answer>") for text in completions]


def humanomni_accuracy(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for the ``<answer>`` by the row's ``problem_type``, 0 to 1.

    Multiple choice: the same choice. Numerical: equal to 2 decimals. OCR: 1 - word error rate.
    Regression: 1 - min(1, relative error). emer_ov and emer_ov_mc: F1 of the two sets of labels.
    Judge: the same yes or no. Free-form: the LLM judge's score / 5. No ``<answer>``: 0. Without
    gold, or with a problem type that is none of these: None.

    Raises:
        InputError: If there is a free-form row and no judge is set (``OMNISTAGE_JUDGE_URL``).
        TransientError: If the judge does not answer.
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

    No context: 0. No context in the solution: None. The judge is set by ``OMNISTAGE_JUDGE_URL``
    and ``OMNISTAGE_JUDGE_MODEL``.

    Raises:
        InputError: If a row needs the judge and none is set.
        TransientError: If the judge does not answer.
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

    The evidence is the completion's own ``<context>``. One of the two missing: 0.

    Raises:
        InputError: If a row needs the judge and none is set.
        TransientError: If the judge does not answer.
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
