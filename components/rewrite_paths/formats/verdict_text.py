"""How OmniCritic's files write a judge's verdict and the instructions that ask for it."""

import re
from typing import Any

from omnistage.records.verdict import VERDICT_KEYS, better_of

_LINE = re.compile(
    r"^[ \t]*(score_[AB]|better|final_verdict)[ \t]*:[ \t]*(.+?)[ \t]*,?[ \t]*$", re.M
)
_THOUGHT = re.compile(r"<think>.*?</think>", re.S)
_REASONING = re.compile(r"^[ \t]*reasoning[ \t]*:[ \t]*(.+)$", re.M)
# Where the question begins: a heading, if there is one, tags, and the path of the medium.
_CONTEXT = re.compile(
    r"(?:^[ \t]*#+[ \t][^\n]*\n[ \t]*)?(?:<(?:image|audio|video)>\s*)*"
    r"\b(?:Image|Audio|Video) file:",
    re.M,
)


def is_verdict(value: Any) -> bool:
    """Whether an answer is meant to be a judge's verdict, rightly formed or not."""
    return isinstance(value, str | dict) and "score_A" in value and "better" in value


def verdict_of_lines(text: str) -> dict[str, Any] | None:
    """Read a verdict written as lines, such as ``score_A: 4``, instead of JSON.

    What is not stated follows from the scores; line ends within the reasoning become spaces.

    Returns:
        The five keys, or None if the text has no lines with both scores.
    """
    found: dict[str, str] = {m[1]: m[2].strip("\"' ") for m in _LINE.finditer(text)}
    try:
        a, b = int(found["score_A"]), int(found["score_B"])
    except (KeyError, ValueError):
        return None
    better = found.get("better", better_of(a, b))
    thought, stated = _THOUGHT.search(text), _REASONING.search(text)
    if thought:
        reasoning = " ".join(thought[0].split("\n"))
    else:
        reasoning = f"<think>{stated[1].strip() if stated else ''}</think>"
    return {
        "score_A": a,
        "score_B": b,
        "better": better,
        "reasoning": reasoning,
        "final_verdict": found.get("final_verdict", f"<answer>[[{better}]]</answer>"),
    }


def split_instructions(text: str) -> tuple[str, str]:
    """Split a judge's prompt before the question and its medium.

    Returns:
        The instructions, empty if the text before the path does not name the keys of a verdict,
        and the rest.
    """
    found = _CONTEXT.search(text)
    if found and all(key in text[: found.start()] for key in VERDICT_KEYS):
        return text[: found.start()].rstrip(), text[found.start() :]
    return "", text
