"""The right answer of a record: a judge's verdict, or the answer to a question."""

import json
import re
from typing import Any

from components.rewrite_paths.draft import Draft, Form, RowError
from components.rewrite_paths.formats.numbers import json_text
from components.rewrite_paths.formats.verdict_text import is_verdict, verdict_of_lines
from omnistage.records.answer import has_no_answer, last_answer
from omnistage.records.verdict import BETTER, VERDICT_KEYS, VerdictError, parse_verdict, read_object

_SCORES = ("score_A", "score_B")
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?%?")
_LETTERS = re.compile(r"\(?[A-Z]\)?(?:\s*[,;]\s*\(?[A-Z]\)?)+")
_BOX = re.compile(
    r"[\[({]\s*[-\d.]+\s*,\s*[-\d.]+\s*,\s*[-\d.]+\s*,\s*[-\d.]+\s*[\])}]|\{.*\"?bbox(?:_2d)?\"?.*\}",
    re.S,
)

_ASKS_FOR_BOX = re.compile(r"\b(?:bounding|b?box(?:es)?|coordinates?|bbox_2d)\b", re.I)
_FORMULA = re.compile(r"\$[^$\s][^$]*\$")
_COMMAND = re.compile(r"\\(?:d?frac|sqrt|boxed|pi|times|cdot|left|circ|theta)(?![A-Za-z])")
_WORDS = re.compile(r"\\(?:text|mathrm|mbox)\{[^{}]*\}")
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}(?:\s+[A-Za-z]+){2}")


def normalize_answer(draft: Draft, task: str | None, form: Form) -> tuple[str, str, dict[str, Any]]:
    """Bring a draft's answer into canonical form.

    The draft's messages get or lose their last assistant turn, as the form demands.

    Args:
        draft: Changed in place.
        task: What the recipe says, or None.
        form: ``sft`` records end with the answer, the others do not show it.

    Returns:
        Task, solution and gold columns.

    Raises:
        RowError: If there is no answer, or it contradicts itself or its columns.
    """
    last = draft.messages[-1]
    turn = draft.messages.pop() if last["role"] == "assistant" else None
    shown = turn["content"] if turn else None
    if not draft.messages or draft.messages[-1]["role"] != "user":
        raise RowError("no_prompt", "there is no user turn before the answer")
    if not "".join(m["content"] for m in draft.messages if m["role"] == "user").strip():
        raise RowError("no_prompt", "the user turns are empty")
    task = task or draft.task
    columns = draft.gold if "better" in draft.gold else None
    if task is None and (is_verdict(draft.solution) or is_verdict(shown)):
        task = "judge"
    if task is None and columns and draft.solution is None and shown is None:
        task = "judge"
    if task == "judge":
        solution, gold = _normalize_verdict(draft, shown, form)
        answer = solution
    else:
        answer, solution = _normalize_plain(draft, shown)
        gold = {k: draft.gold[k] for k in ("options", "problem_type") if k in draft.gold}
        _check_columns(gold)
        task = task or guess_task(last_answer(solution), draft, gold)
    if form == "sft":
        draft.messages.append({**(turn or {"role": "assistant"}), "content": answer})
    return task, solution, gold


def _normalize_verdict(draft: Draft, shown: str | None, form: Form) -> tuple[str, dict[str, Any]]:
    given = draft.gold
    stated = [v for v in (shown, draft.solution) if v is not None]
    if not stated and {"better", "score_A", "score_B"} <= given.keys() and form != "sft":
        stated = [{key: given[key] for key in ("score_A", "score_B", "better")}]
    if not stated and "better" in given and form != "sft":
        return json.dumps({"better": given["better"]}), _only_better(given)
    if not stated:
        raise RowError("no_answer", "there is no verdict")
    # What is learned from comes first; a verdict stated once more must agree with it.
    if form != "sft":
        stated.reverse()
    fields = _verdict_fields(stated[0], strict=form == "sft")
    verdict = parse_verdict(fields)
    if not verdict.consistent:
        raise RowError(
            "contradictory_verdict",
            f"better is {verdict.better} but the scores are {verdict.score_a} and "
            f"{verdict.score_b}",
        )
    gold: dict[str, Any] = {
        "better": verdict.better,
        "score_A": verdict.score_a,
        "score_B": verdict.score_b,
    }
    for other in stated[1:]:
        if parse_verdict(_verdict_fields(other, strict=False)).better != verdict.better:
            raise RowError("gold_conflict", "two verdicts of the row disagree on better")
    for key, value in gold.items():
        column = given.get(key, value)
        if column != value and str(column) != str(value):
            raise RowError("gold_conflict", f"{key} is {value} but its column says {column!r}")
    if "cmp_gt" in given:
        cmp_gt = given["cmp_gt"]
        if isinstance(cmp_gt, bool) or not isinstance(cmp_gt, int | float):
            raise RowError("bad_field", "cmp_gt: a number is needed")
        gold["cmp_gt"] = cmp_gt
    return json.dumps(fields, ensure_ascii=False), gold


def _verdict_fields(value: str | dict[str, Any], strict: bool) -> dict[str, Any]:
    try:
        fields = _read_fields(value) if isinstance(value, str) else dict(value)
        parse_verdict(fields, strict=strict)
    except VerdictError as e:
        raise RowError("bad_verdict", str(e)) from e
    if not fields.keys() <= set(VERDICT_KEYS):
        extra = next(key for key in fields if key not in VERDICT_KEYS)
        raise RowError("bad_verdict", f"unknown key {extra[:40]!r}")
    if any(type(fields[key]) is not int or not 0 <= fields[key] <= 10 for key in _SCORES):
        raise RowError("bad_verdict", "scores must be integers from 0 to 10")
    if not all(isinstance(fields[k], str) for k in fields if k not in _SCORES):
        raise RowError("bad_verdict", "reasoning and final_verdict must be texts")
    return fields


def _read_fields(text: str) -> dict[str, Any]:
    try:
        return read_object(text)[0]
    except VerdictError:
        fields = verdict_of_lines(text)
        if fields is None:
            raise
        return fields


def _normalize_plain(draft: Draft, shown: str | None) -> tuple[str, str]:
    """Return the text to learn from and the bare answer."""
    given = draft.solution
    if isinstance(given, dict):
        given = json_text(given)
    text = shown if shown is not None else given
    if text is None:
        raise RowError("no_answer", "there is no answer")
    if not text.strip():
        raise RowError("no_answer", "the answer is empty")
    source = given if given is not None and given.strip() else text
    if has_no_answer(source):
        raise RowError("no_answer", "there is a thought or an empty <answer>, and no answer")
    # Rewards of HumanOmniV2 compare with what the gold says in its context.
    return text, source.strip() if "<context>" in source else last_answer(source)


def _only_better(given: dict[str, Any]) -> dict[str, Any]:
    """Return the gold columns of a preference, which has no scores."""
    if given["better"] not in BETTER:
        raise RowError("bad_field", f"better: A, B or equal is needed, not {given['better']!r:.40}")
    return {"better": given["better"]}


def _check_columns(gold: dict[str, Any]) -> None:
    options = gold.get("options", [])
    if not isinstance(options, list) or not all(isinstance(o, str) for o in options):
        raise RowError("bad_field", "options: a list of texts is needed")
    if not isinstance(gold.get("problem_type", ""), str):
        raise RowError("bad_field", "problem_type: a text is needed")


def guess_task(answer: str, draft: Draft, gold: dict[str, Any]) -> str:
    """Tell the task from the form of the answer; the recipe's ``task`` overrules it.

    Only what is unlikely to be anything else is told: a formula is one in all, and four numbers
    are a box where something is shown and the question asks for one.
    """
    problem = draft.messages[-1]["content"]
    if (draft.images or draft.videos) and _BOX.fullmatch(answer) and _ASKS_FOR_BOX.search(problem):
        return "rec"
    if answer.lower().rstrip(".") in ("yes", "no"):
        return "yes_no"
    lists_options = "options" in gold or re.search(r"(?:^|\n|\s)\(?A[).:]\s", problem) is not None
    if lists_options and re.fullmatch(r"\(?[A-Z]\)?\.?", answer):
        return "choice"
    if re.fullmatch(r"\(?[a-z]\)?\.?", answer) and re.search(r"(?:^|\n)\s*\(?a[).:]\s", problem):
        return "choice"
    if _LETTERS.fullmatch(answer):
        return "multi_choice"
    if _NUMBER.fullmatch(answer):
        return "numeric"
    if _FORMULA.fullmatch(answer):
        return "math"
    in_prose = _PROSE.search(_WORDS.sub("", answer)) and r"\boxed" not in answer
    if _COMMAND.search(answer) and not in_prose:
        return "math"
    return "free_form"
