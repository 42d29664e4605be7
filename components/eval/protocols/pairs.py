"""Protocols of the reward benchmarks."""

import re
from collections.abc import Mapping

from components.eval.protocols.protocol import Protocol
from components.eval.tasks.task import Record
from omnistage.records.verdict import swap_better

_OVERALL = re.compile(
    r"(?:Overall Judgment|Therefore)\s*.*\s*-*\s*Answer\s*(\d+)\s*is\s*(?:the\s*)?"
    r"(?:slightly\s*)?better",
    re.IGNORECASE,
)
_ANSWERS: Mapping[str, str] = {"1": "A", "2": "B"}


def read_overall_judgment(record: Record, text: str, order: int) -> str | None:
    """Read ``Overall Judgment: Answer 1 is better``, as lmms-eval does.

    Line breaks and asterisks are taken out first, so the last such statement counts.
    """
    match = _OVERALL.search(text.strip().replace("\n", "").replace("*", ""))
    return _named(_ANSWERS.get(match[1]) if match else None, order)


def read_brackets(record: Record, text: str, order: int) -> str | None:
    """Read ``[[A]]`` or ``[[B]]``; a text with both says A, as in the suites' own code."""
    letter = next((letter for letter in "AB" if f"[[{letter}]]" in text), None)
    return _named(letter, order)


def _named(letter: str | None, order: int) -> str | None:
    """Return the winner in the record's names; in the second order they are exchanged."""
    return swap_better(letter) if letter and order else letter  # pyright: ignore[reportArgumentType]


_BRACKETS = (
    "Compare two responses to a question about the image. Explain in short which follows it "
    "better, whatever their order or length; then write [[A]] if the first response is better, or "
    "[[B]] if the second is.\n\nQuestion: {question}"
)
_JUDGE = frozenset({"judge"})

PROTOCOLS = (
    Protocol(
        name="lmms_vl_rewardbench",
        title="lmms-eval's VL-RewardBench",
        source="lmms-eval, tasks/vl_rewardbench/utils.py; its second reader, a language model, is "
        "not asked: what the pattern cannot read counts its expected value by chance",
        tasks=_JUDGE,
        template="Compare two answers to a question about the image; the first response is "
        "Answer 1, the second is Answer 2. Weigh accuracy, completeness, clarity and relevance, "
        "and end with: Overall Judgment: Answer X is better.\n\nQuestion: {question}",
        decoding="temperature 1 there",
        read=read_overall_judgment,
        invalid="chance",
        orders=1,
        average="macro",
    ),
    Protocol(
        name="lmms_mm_rewardbench",
        title="lmms-eval's Multimodal RewardBench",
        source="lmms-eval, tasks/multimodal_rewardbench/utils.py: what cannot be read is drawn by "
        "a generator seeded anew for each record, whose first draw is always A",
        tasks=_JUDGE,
        template=_BRACKETS,
        read=read_brackets,
        invalid="first",
        orders=1,
    ),
    Protocol(
        name="vlmevalkit_mm_rewardbench",
        title="VLMEvalKit's Multimodal RewardBench",
        source="VLMEvalKit's convention that what cannot be read is wrong",
        tasks=_JUDGE,
        template=_BRACKETS,
        read=read_brackets,
        orders=1,
    ),
)
