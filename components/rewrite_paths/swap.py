"""Exchanges candidates A and B of a judge record."""

import json
import re
from typing import Any

from omnistage.verdict import VerdictError, parse_verdict, read_object, swap

# The line that begins a candidate, as in `Response A: …` or `**Candidate B**: …`.
_LABEL = re.compile(
    r"^[ \t]*(?:\*\*)?(Candidate|Response|Answer|Assistant|Model|Output)[ _]([AB])(?:\*\*)?[ \t]*:",
    re.M,
)
_HEADING = re.compile(r"^[ \t]*#+[ \t]", re.M)


def swap_candidates(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return a judge record with its candidates, and all that is said of them, exchanged.

    Args:
        record: A canonical record.

    Returns:
        The record, or None where the prompt does not show the two candidates under labels of
        their own, or the verdict cannot be read.
    """
    messages = [dict(message) for message in record["messages"]]
    last = max(i for i, message in enumerate(messages) if message["role"] == "user")
    prompt = _swap_prompt(messages[last]["content"])
    if prompt is None:
        return None
    messages[last]["content"] = prompt
    try:
        solution = _swap_verdict(record["solution"])
        if messages[-1]["role"] == "assistant":
            messages[-1]["content"] = _swap_verdict(messages[-1]["content"])
    except VerdictError:
        return None
    verdict = parse_verdict(solution)
    gold = {"better": verdict.better, "score_A": verdict.score_a, "score_B": verdict.score_b}
    return record | {"messages": messages, "solution": solution} | gold


def _swap_prompt(prompt: str) -> str | None:
    labels = list(_LABEL.finditer(prompt))
    if len(labels) != 2 or [label[2] for label in labels] != ["A", "B"]:
        return None
    first, second = labels
    if first[1] != second[1]:
        return None
    heading = _HEADING.search(prompt, second.end())
    end = heading.start() if heading else len(prompt)
    a = prompt[first.end() : second.start()]
    b = prompt[second.end() : end]
    # White space around a candidate belongs to the layout, not to the candidate.
    return (
        prompt[: first.end()]
        + a.replace(a.strip(), b.strip(), 1)
        + prompt[second.start() : second.end()]
        + b.replace(b.strip(), a.strip(), 1)
        + prompt[end:]
        if a.strip() and b.strip()
        else None
    )


def _swap_verdict(text: str) -> str:
    fields, _ = read_object(text)
    swapped = swap(parse_verdict(fields)).to_dict()
    return json.dumps({key: swapped[key] for key in fields}, ensure_ascii=False)
