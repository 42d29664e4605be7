"""The record files of a recipe: which there are, and which of their rows are wanted."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.rewrite_paths.config import Records, RewriteSettings
from components.rewrite_paths.draft import Form
from components.rewrite_paths.sources.archived import split_pattern, unpack
from components.rewrite_paths.sources.json_list import begins_list, list_to_lines
from components.rewrite_paths.sources.lines import rows_of
from components.rewrite_paths.sources.mixture import read_mixture
from components.rewrite_paths.sources.tables import is_saved_dataset, table_to_lines
from omnistage.errors import InputError

ORDER: tuple[Form, ...] = ("test", "sft", "rl")
"""Splits in the order they are converted in: what is in test is known before it can leak."""
MAX_ENTRIES = 1000  # of a split
_UNPACKED = "unpacked"
SUFFIXES = (".jsonl", ".json", ".parquet", ".yaml", ".yml")


@dataclass(frozen=True)
class Source:
    """One record file, read for one split.

    Attributes:
        split: Split that it is listed in.
        path: JSON Lines to read; of a list or table a copy with a row a line.
        shown: Name in ids and messages: relative to the data set's files; a member follows its
            archive.
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
    listed = {split: list(_listed(files, split, settings, scratch)) for split in ORDER}
    given = {path for entries in listed.values() for _, _, path in entries}
    sources = []
    for split in ORDER:
        taken: dict[str, int] = {}
        # A file that the recipe names belongs to the split it is named for, whatever its name.
        entries = listed[split] or [
            entry for entry in _by_name(files, split, settings) if entry[2] not in given
        ]
        for number, (group, entry, path) in enumerate(entries):
            unpacked = scratch / _UNPACKED
            top = unpacked if path.is_relative_to(unpacked) else files
            shown = path.relative_to(top).as_posix()
            if shown in taken:
                raise InputError(
                    f"rewrite_paths.{split}: {shown} is matched by two entries; make their "
                    "patterns narrower"
                )
            taken[shown] = number
            lines = as_lines(path, scratch / f"{split}-{number}.jsonl")
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


def unread_files(files: Path, sources: Sequence[Source]) -> list[str]:
    """Return the record files of a data set that no split reads, mixtures left out."""
    read = {source.shown for source in sources}
    found = (path for path in record_files(files) if path.suffix not in (".yaml", ".yml"))
    return sorted({path.relative_to(files).as_posix() for path in found} - read)


def record_files(files: Path) -> Iterator[Path]:
    """Yield record files and saved data sets; what is in a saved data set is part of it."""
    for path in files.rglob("*"):
        if path.suffix.lower() in SUFFIXES:
            if not is_saved_dataset(path.parent):
                yield path
        elif is_saved_dataset(path):
            yield path


def as_lines(path: Path, target: Path) -> Path:
    """Return a file with a row a line: the record file, or a copy of another form of it.

    Raises:
        InputError: If its first bytes say that it is something else.
    """
    if not path.is_dir():
        _check_beginning(path)
    if path.is_dir() or path.suffix.lower() == ".parquet":
        return table_to_lines(path, target)
    if path.suffix.lower() == ".json" or begins_list(path):
        return list_to_lines(path, target)
    return path


_BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer; the file itself was not downloaded",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
    b"\x1f\x8b": "gzip; unpack it",
    b"PK\x03\x04": "a zip; unpack it, or name its members as FILE.zip/*.jsonl",
    b"<!doctype": "an HTML page, such as a download that asks to log in leaves",
    b"<html": "an HTML page, such as a download that asks to log in leaves",
    b"par1": "Parquet; give it the ending .parquet",
}
"""How files begin, in small letters, that are no JSON Lines whatever their name says."""


def _check_beginning(path: Path) -> None:
    with path.open("rb") as f:
        start = f.read(64).lower()
    for beginning, what in _BEGINNINGS.items():
        parquet = beginning == b"par1" and path.suffix.lower() == ".parquet"
        if start.startswith(beginning.lower()) and not parquet:
            raise InputError(f"{path.name}: it is {what}")


def _listed(
    files: Path, split: Form, settings: RewriteSettings, scratch: Path
) -> Iterator[tuple[int, Records, Path]]:
    """Yield the record files that the recipe names for a split, with the number of their entry."""
    for group, entry in enumerate(getattr(settings, split) or []):
        found: dict[Path, None] = {}
        for pattern in entry.files:
            matches = _matches(files, pattern, scratch / _UNPACKED)
            if not matches:
                raise InputError(
                    f"rewrite_paths.{split}: no file matches {pattern!r}. {_there_are(files)}"
                )
            _check_suffixes(matches, split)
            found |= dict.fromkeys(matches)
        for path in found:
            if path.suffix in (".yaml", ".yml"):
                for sampled, listed_path in read_mixture(path, files, entry):
                    yield group, sampled, listed_path
            else:
                yield group, entry, path


def _by_name(
    files: Path, split: Form, settings: RewriteSettings
) -> Iterator[tuple[int, Records, Path]]:
    if getattr(settings, split) is None:
        entry = Records(files=[f"**/*{split}*.jsonl"])
        for path in _matches(files, entry.files[0], files):
            yield 0, entry, path


def _matches(files: Path, pattern: str, unpacked: Path) -> list[Path]:
    """Return the files that a pattern means; those in an archive are written to a folder."""
    if pattern.startswith("/") or ".." in Path(pattern).parts:
        raise InputError(f"rewrite_paths: {pattern!r} must be relative to the data set's files")
    if packed := split_pattern(pattern):
        archives = sorted(path for path in files.glob(packed[0]) if path.is_file())
        folders = [unpacked / path.relative_to(files) for path in archives]
        found = zip(archives, folders, strict=True)
        return [path for archive, folder in found for path in unpack(archive, packed[1], folder)]
    # A name may have brackets, and its letters with accents come in two forms.
    named = unicodedata.normalize("NFC", pattern)
    literal = [
        path
        for path in record_files(files)
        if unicodedata.normalize("NFC", path.relative_to(files).as_posix()) == named
    ]
    return literal or sorted(p for p in files.glob(pattern) if p.is_file() or is_saved_dataset(p))


def _check_suffixes(paths: list[Path], split: str) -> None:
    for path in paths:
        if path.suffix.lower() not in SUFFIXES and not path.is_dir():
            raise InputError(
                f"rewrite_paths.{split}: {path.name} is no record file that is read: a name that "
                f"ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} is needed"
            )


def _there_are(files: Path) -> str:
    known = sorted(path.relative_to(files).as_posix() for path in record_files(files))
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
