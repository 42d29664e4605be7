"""Reads a row: by its format's reader, then what all formats have in common.

What no reader has read is honoured, refused or counted as dropped by ``columns.py``.
"""

from collections.abc import Mapping
from typing import Any

from components.rewrite_paths.draft import Draft, Form, Row, RowError
from components.rewrite_paths.formats.columns import check_learned, settle_columns
from components.rewrite_paths.formats.grounding import settle_objects
from components.rewrite_paths.formats.options import show_options
from components.rewrite_paths.formats.quoted import PLACE, hide_candidates
from components.rewrite_paths.formats.readers import READERS
from components.rewrite_paths.formats.recognise import recognise
from components.rewrite_paths.formats.turns import merge_turns
from components.rewrite_paths.formats.verdict_text import is_verdict
from omnistage.archives.media_names import media_kind
from omnistage.records.record import TAGS

_JUDGED = {
    "preference": "rejected or rejected_response",
    "pair": "better",
    "vl_rewardbench": "human_ranking",
    "mm_rewardbench": "Better",
    "best_of_n": "scores",
}
"""Formats of pairs to judge, and the column that says which answer is better."""


def read_row(
    row: Any,
    format: str,
    split: Form = "rl",
    seed: int = 0,
    columns: Mapping[Any, str] | None = None,
) -> Draft:
    """Read a parsed row.

    Args:
        row: Any JSON value.
        format: Name of its format, or ``auto``.
        split: Where its file is listed: some columns mean another thing where nothing is learned.
        seed: Of the order of chosen and rejected answers.
        columns: Names that the formats know, each with the row's own name for it.

    Raises:
        RowError: If it is not of that format, or of none that is known.
    """
    if not isinstance(row, dict):
        raise RowError("not_an_object", "a JSON object is needed")
    names = _renamed(row, columns or {})
    row = {new: row[old] for new, old in names.items()}
    name = recognise(row) if format == "auto" else format
    if name is None:
        raise RowError("unknown_format", f"fits no format; keys: {', '.join(row)[:120]}")
    needed, reader = READERS[name]
    absent = sorted(needed - row.keys())
    if absent:
        raise RowError("unknown_format", f"not {name}: no {absent[0]!r}")
    tracked = Row(row, seed)
    draft = reader(tracked)
    if split == "sft" and draft.gold.get("better") and draft.solution is None and name in _JUDGED:
        raise RowError(
            "preference",
            f"{_JUDGED[name]}: a preference has no scores and no reasoning to fine-tune on; listed "
            "under rl or test it is a pair to judge",
        )
    settle_objects(tracked, draft, split)
    settle_columns(tracked, draft)
    _name_dropped(tracked, draft, names, columns or {})
    draft.messages = merge_turns(draft.messages)
    if not any(message["role"] == "user" for message in draft.messages):
        raise RowError("no_prompt", "there is no user turn")
    judged = _is_judged(draft)
    if judged:
        hide_candidates(draft)
    for message in draft.messages:
        message["content"] = message["content"].replace(PLACE, "")
    if not judged:
        _settle_letters(draft, show_options(draft), split)
    check_learned(draft, split)
    return draft


def _name_dropped(
    row: Row, draft: Draft, names: Mapping[str, str], columns: Mapping[Any, str]
) -> None:
    """Give what is dropped the names that the file has, with the recipe's columns that it lacks."""
    draft.dropped = [names.get(key, key) for key in draft.dropped]
    draft.dropped += [
        f"{old} (of the recipe's columns, not in the row)"
        for old in columns.values()
        if old not in names.values()
    ]
    if not any(getattr(draft, name) for name in TAGS):
        found = {names[key]: _medium(row.peek(key)) for key in row if key not in row.used}
        draft.unread = {key: medium for key, medium in found.items() if medium is not None}


def _medium(value: Any) -> str | None:
    """Return the path of the medium that a column seems to hold, "" for one that is in the row."""
    if isinstance(value, list):
        return next((m for m in map(_medium, value) if m is not None), None)
    if isinstance(value, dict) and value.keys() <= {"bytes", "path", "array", "sampling_rate"}:
        return "" if value.get("bytes") or value.get("array") else _medium(value.get("path"))
    return value if isinstance(value, str) and media_kind(value) else None


def _is_judged(draft: Draft) -> bool:
    """Whether a draft's answer is a verdict, or it has two candidates and nothing else to learn."""
    last = draft.messages[-1]
    shown = last["content"] if last["role"] == "assistant" else None
    preferred = "better" in draft.gold and draft.solution is None and shown is None
    return preferred or draft.task == "judge" or is_verdict(draft.solution) or is_verdict(shown)


def _settle_letters(draft: Draft, letters: list[str], split: Form) -> None:
    """Make the letters of the right options the gold answer: ``(b)`` and ``B. red`` are ``B``."""
    last = draft.messages[-1]
    given = draft.solution if draft.solution is not None else last["content"]
    if not letters or not isinstance(given, str) or "<context>" in given:
        return
    if split == "sft" and last["role"] != "assistant":
        draft.messages.append({"role": "assistant", "content": given})  # what is learned stays
    draft.solution = ", ".join(letters)


def _renamed(row: Mapping[str, Any], columns: Mapping[Any, str]) -> dict[str, str]:
    """Return the row's columns by the name they are read under.

    A column whose name the recipe gives to another one keeps out of its way, and is dropped.
    """
    known_as = {old: new for new, old in columns.items() if old in row}
    taken = set(known_as.values())
    return {
        known_as.get(old, f"{old} (not the one in columns)" if old in taken else old): old
        for old in row
    }
