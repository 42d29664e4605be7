"""Looks at record files: what their rows are, and which split each file is for."""

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from components.rewrite_paths.convert.answer import normalize_answer
from components.rewrite_paths.convert.row import parse
from components.rewrite_paths.draft import Form, RowError
from components.rewrite_paths.formats.read_row import read_row
from components.rewrite_paths.formats.recognise import recognise
from components.rewrite_paths.sources.files import as_lines, record_files
from components.rewrite_paths.sources.lines import rows_of
from omnistage.errors import InputError

SAMPLE = 200
"""Rows looked at in each file."""
_SPLITS: tuple[tuple[Form, str], ...] = (
    ("test", r"test|val|valid|validation|dev|eval"),
    ("sft", r"sft"),
    ("rl", r"rl|grpo|dpo"),
)


@dataclass
class FileLook:
    """What a record file was taken for."""

    shown: str
    """Its path below the data set's files."""
    rows: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    """Format to rows of the sample."""
    unread: Counter[str] = field(default_factory=Counter)
    """Why a row of the sample cannot be read, to how many."""
    splits: tuple[Form, ...] = ()
    """What it is read for; empty where it is left alone."""
    judged: bool = False
    """Whether most rows are pairs to judge, whose prompt says the form of the verdict."""
    tagged: bool = False
    """Whether most prompts ask for the tag that the answer is read from."""


def look(files: Path, scratch: Path) -> list[FileLook]:
    """Return what each record file of a data set is taken for.

    A file whose name says test (or validation), sft or rl is that. Of another, rows that show a
    whole answer are fine-tuned on, and rows whose answer can be checked are for reinforcement
    learning: a file may be both.

    Args:
        files: The data set's files.
        scratch: Folder for lists and tables written as lines.

    Raises:
        InputError: If there is no record file, or none that can be read; the message says why.
    """
    found = [
        _look_at(path, path.relative_to(files).as_posix(), scratch / f"{number}.jsonl")
        for number, path in enumerate(sorted(record_files(files)))
        if path.suffix not in (".yaml", ".yml")
    ]
    if not found:
        raise InputError(
            "no record file is there (.jsonl, .json, .parquet or a saved data set): omnistage "
            "learns from rows that ask something about media and hold the answer"
        )
    if not any(one.splits for one in found):
        reasons = "; ".join(f"{one.shown}: {_reason(one)}" for one in found[:3])
        raise InputError(
            f"no row is of a known format: {reasons}. The formats are in docs/recipes.md; columns "
            "of other names are told by rewrite_paths.rl[].columns"
        )
    return found


def _reason(one: FileLook) -> str:
    return one.unread.most_common(1)[0][0] if one.unread else "it has no row"


def _look_at(path: Path, shown: str, scratch: Path) -> FileLook:
    found = FileLook(shown)
    try:
        lines = as_lines(path, scratch)
        found.rows = sum(1 for _ in rows_of(lines))
        sample = list(islice(rows_of(lines), SAMPLE))
    except InputError as e:
        found.unread[str(e)] += 1
        return found
    read = checked = taught = judged = tagged = 0
    for line in sample:
        try:
            row = parse(line)
            name = recognise(row) if isinstance(row, dict) else None
            task, tags, forms = _good_for(line)
        except RowError as e:
            found.unread[f"{e.reason}: {e.detail}"] += 1
            continue
        found.formats[name or "?"] += 1
        read += 1
        checked += "rl" in forms
        taught += "sft" in forms
        judged += task == "judge"
        tagged += tags
    found.judged, found.tagged = judged * 2 > read, tagged * 2 > read
    if read * 2 >= len(sample) > 0:
        named = _named(shown)
        by_rows: list[Form] = []
        if taught * 2 >= read:
            by_rows.append("sft")
        if checked * 2 >= read:
            by_rows.append("rl")
        found.splits = (named,) if named else tuple(by_rows)
    return found


def _good_for(line: bytes) -> tuple[str, bool, list[Form]]:
    """Return a row's task, whether its prompt asks for an answer in tags, and what it is good for.

    Raises:
        RowError: If it cannot be read.
    """
    draft = read_row(parse(line), "auto", "rl")
    whole = draft.messages[-1]["role"] == "assistant"
    task, _, gold = normalize_answer(draft, None, "rl")
    forms: list[Form] = []
    if whole or (task == "judge" and "score_A" in gold):
        forms.append("sft")
    # A free answer has nothing to be checked by but its wording: it is fine-tuned on.
    if task != "free_form" or not whole:
        forms.append("rl")
    return task, any("<answer>" in turn["content"] for turn in draft.messages), forms


def _named(shown: str) -> Form | None:
    """Return the split that a file's path names."""
    for split, words in _SPLITS:
        if re.search(rf"(?:^|[^a-z])(?:{words})(?:[^a-z]|$)", shown.lower()):
            return split
    return None
