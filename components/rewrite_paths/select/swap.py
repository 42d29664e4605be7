"""Exchanges candidates A and B of a judge record."""

from typing import Any

from omnistage.errors import InputError
from omnistage.records.pairs import media_order
from omnistage.records.pairs import swap_candidates as swap_prompt
from omnistage.records.record import prompt_of
from omnistage.records.verdict import VerdictError, parse_verdict, read_better, swap_json


def swap_candidates(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return a judge record with its candidates, and all that is said of them, exchanged.

    Args:
        record: A canonical record.

    Returns:
        The record, or None where the prompt does not show the two candidates under labels of
        their own, or the verdict cannot be read.
    """
    prompt = prompt_of(record)
    answer = record["messages"][len(prompt) :]
    try:
        messages = swap_prompt(prompt, record.get("id", ""))
        solution = swap_json(record["solution"])
        messages += [{**turn, "content": swap_json(turn["content"])} for turn in answer]
    except (InputError, VerdictError):
        return None
    gold: dict[str, Any] = {"better": read_better(solution)}
    if "score_A" in record:
        verdict = parse_verdict(solution)
        gold |= {"score_A": verdict.score_a, "score_B": verdict.score_b}
    media = {
        name: [record[name][place] for place in order]
        for name, order in media_order(prompt).items()
    }
    return record | {"messages": messages, "solution": solution} | media | gold
