"""Tells the format of a row from its columns."""

from collections.abc import Mapping
from typing import Any

from components.rewrite_paths.formats.pairs import is_preference
from components.rewrite_paths.formats.verdict_text import is_verdict
from omnistage.records.record import KEYS, TAGS

QUESTIONS = ("question", "Question", "problem", "Problem")
ANSWERS = ("answer", "Answer", "solution")
PAIRS = {
    "pair": {"question", "response_a", "response_b", "better"},
    "vl_rewardbench": {"query", "response", "human_ranking"},
    "mm_rewardbench": {"Text", "Output1", "Output2", "Better"},
    "best_of_n": {"question", "responses", "scores"},
}


def recognise(row: Mapping[str, Any]) -> str | None:
    """Return the name of a row's format, or None if it fits none."""
    keys = row.keys()
    if is_preference(row):
        return "preference"
    for name, columns in PAIRS.items():
        # Samples beside a gold answer are what a model said: the question and its gold count.
        if keys >= columns and not (name == "best_of_n" and keys & set(ANSWERS)):
            return name
    if "messages" in keys:
        if keys >= {"id", "source", "task"} and keys <= set(KEYS):
            return "omnistage"
        messages = row["messages"]
        listed = isinstance(messages, list) and any(
            isinstance(m, dict) and isinstance(m.get("content"), list) for m in messages
        )
        if listed:
            return "openai"
        last = messages[-1] if isinstance(messages, list) and messages else None
        shown = last.get("content") if isinstance(last, dict) else None
        judged = is_verdict(row.get("solution")) or is_verdict(shown)
        return "omnicritic" if judged else "ms_swift"
    if keys >= {"instruction", "output"} or keys & {"query", "conversation"}:
        return "ms_swift"
    if keys >= {"input", "output"}:
        return "omnicritic_old"
    if keys >= {"message", "answer"}:
        return "lmm_r1"
    if "conversations" in keys:
        return "r1_omni" if "video" in keys and _asks_for_sound(row) else "llava"
    if keys >= {"problem", "solution"}:
        return "humanomni_v2" if "path" in keys else "omnirl"
    if "prompt" in keys and keys & {"completion", "response", *ANSWERS}:
        return "trl"
    if keys & set(QUESTIONS) and keys & {"response", *ANSWERS}:
        return "question"
    return None


def _asks_for_sound(row: Mapping[str, Any]) -> bool:
    """Whether a turn has the tag by which R1-Omni's rows mean the sound of their clip."""
    turns = row["conversations"] if isinstance(row["conversations"], list) else []
    return any(TAGS["audios"] in str(turn.get("value")) for turn in turns if isinstance(turn, dict))
