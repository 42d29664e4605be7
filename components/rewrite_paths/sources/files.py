"""The record files of a recipe: which there are, and which of their rows are wanted."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.rewrite_paths.config import Records, RewriteSettings
from components.rewrite_paths.draft import Form
from components.rewrite_paths.sources.json_list import list_to_lines
from components.rewrite_paths.sources.lines import rows_of
from components.rewrite_paths.sources.mixture import read_mixture
from omnistage.errors import InputError

ORDER: tuple[Form, ...] = ("test", "sft", "rl")
"""Splits in the order they are converted in: what is in test is known before it can leak."""
MAX_ENTRIES = 1000  # of a split


@dataclass(frozen=True)
class Source:
    """One record file, read for one split.

    Attributes:
        split: Split that it is listed in.
        path: JSON Lines to read; of a JSON list a copy with a row a line.
        shown: Name in ids and messages: relative to the data set's files.
        entry: What the recipe says about it.
        label: Label of its records.
        wanted: For each row whether it is wanted; None for all.
        group: Place of the recipe's entry among those of the split.
    """

    split: Form
    path: Path
    shown: str
    entry: Records
    label: str
    wanted: np.ndarray | None
    group: int

    @property
    def number(self) -> int:
        """Number of the entry among those of all splits."""
        return ORDER.index(self.split) * MAX_ENTRIES + self.group


def find_sources(files: Path, settings: RewriteSettings, scratch: Path) -> list[Source]:
    """Return the record files of all splits, those of a split in the recipe's order.

    Args:
        files: Folder with the data set's files.
        settings: The recipe.
        scratch: Folder for JSON lists written as lines.

    Raises:
        InputError: If a pattern matches nothing, a file is listed twice in a split, or a JSON or
            YAML file cannot be read.
    """
    sources = []
    for split in ORDER:
        taken: dict[str, int] = {}
        entries = list(_entries(files, split, settings))
        for number, (group, entry, path) in enumerate(entries):
            shown = path.relative_to(files).as_posix()
            if shown in taken:
                raise InputError(
                    f"rewrite_paths.{split}: {shown} is matched by two entries; make their "
                    "patterns narrower"
                )
            taken[shown] = number
            lines = path
            if path.suffix == ".json":
                lines = list_to_lines(path, scratch / f"{split}-{number}.jsonl")
            label = entry.source or shown.removesuffix(path.suffix)
            sources.append(
                Source(
                    split,
                    lines,
                    shown,
                    entry,
                    label,
                    _wanted(lines, entry.sampling, [settings.seed, ORDER.index(split), number]),
                    group,
                )
            )
    if not sources:
        raise InputError(
            "rewrite_paths: no record files; name them in rewrite_paths.sft, .rl or .test. "
            + _there_are(files)
        )
    return sources


def _entries(
    files: Path, split: Form, settings: RewriteSettings
) -> Iterator[tuple[int, Records, Path]]:
    listed: list[Records] | None = getattr(settings, split)
    by_name = [Records(files=[f"**/*{split}*.jsonl"])]
    for group, entry in enumerate(by_name if listed is None else listed):
        found: dict[Path, None] = {}
        for pattern in entry.files:
            matches = _matches(files, pattern)
            if not matches and listed is not None:
                raise InputError(
                    f"rewrite_paths.{split}: no file matches {pattern!r}. {_there_are(files)}"
                )
            found |= dict.fromkeys(matches)
        for path in found:
            if path.suffix in (".yaml", ".yml"):
                for sampled, listed_path in read_mixture(path, files, entry):
                    yield group, sampled, listed_path
            else:
                yield group, entry, path


def _matches(files: Path, pattern: str) -> list[Path]:
    if pattern.startswith("/") or ".." in Path(pattern).parts:
        raise InputError(f"rewrite_paths: {pattern!r} must be relative to the data set's files")
    return sorted(path for path in files.glob(pattern) if path.is_file())


def _there_are(files: Path) -> str:
    known = sorted(
        path.relative_to(files).as_posix()
        for path in files.rglob("*")
        if path.suffix in (".jsonl", ".json", ".yaml", ".yml")
    )
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""
    return f"The data set has {', '.join(known[:10]) or 'no record files'}{more}"


def _wanted(path: Path, sampling: str, seed: list[int]) -> np.ndarray | None:
    """Return a mask over the rows (lines that are not blank) of a file."""
    if sampling == "all":
        return None
    rows = sum(1 for _ in rows_of(path))
    kind, _, amount = sampling.rpartition(":")
    if amount.endswith("%"):
        count = round(rows * float(amount[:-1]) / 100)
    else:
        count = min(int(amount), rows)
    wanted = np.zeros(rows, dtype=bool)
    if kind == "first":
        wanted[:count] = True
    elif kind == "end":
        wanted[rows - count :] = True
    else:
        wanted[np.random.default_rng(seed).choice(rows, count, replace=False)] = True
    return wanted
