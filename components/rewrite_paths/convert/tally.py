"""What is counted while rows are converted."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

OUTPUTS: tuple[Literal["sft", "rl", "test", "rejected"], ...] = ("sft", "rl", "test", "rejected")
EXAMPLES = 3  # rejected rows remembered for each reason
CHARACTER_BINS = np.array([0, *(2.0 ** np.arange(4, 21, 0.5))])
SECOND_BINS = np.array([0, *(2.0 ** np.arange(-2, 14, 0.5))])

Key = tuple[str, str, str, str, str]
"""Split, source, task, modality and label."""


@dataclass(frozen=True)
class Rejected:
    """One rejected row, for messages and the data card."""

    file: str
    line: int
    detail: str


@dataclass
class Tally:
    """Counts of one chunk, or of everything.

    Attributes:
        read: Rows read, by split that their file is listed in.
        kept: Records written.
        rejected: Rows set aside, by split and reason.
        left_out: Rows that the recipe does not want, by split and cause.
        dropped: Records whose row has a column that the record does not, by split and column.
        examples: The first rejected rows of each reason.
        characters: Histogram of the characters of records, by split.
        seconds: Histogram of the durations of media, by kind (``audios``, ``videos``).
    """

    read: Counter[str] = field(default_factory=Counter)
    kept: Counter[Key] = field(default_factory=Counter)
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[str, list[Rejected]] = field(default_factory=dict)
    characters: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, np.ndarray] = field(default_factory=dict)

    def reject(self, split: str, reason: str, where: Rejected) -> None:
        """Count a rejected row."""
        self.rejected[split, reason] += 1
        known = self.examples.setdefault(reason, [])
        if len(known) < EXAMPLES:
            known.append(where)

    def leave_out(self, split: str, cause: str, count: int) -> None:
        """Count rows that the recipe does not want."""
        if count:
            self.left_out[split, cause] += count

    def add(self, other: "Tally") -> None:
        """Add the counts of the chunk that comes next."""
        self.read += other.read
        self.kept += other.kept
        self.rejected += other.rejected
        self.left_out += other.left_out
        self.dropped += other.dropped
        for reason, rows in other.examples.items():
            known = self.examples.setdefault(reason, [])
            known.extend(rows[: EXAMPLES - len(known)])
        for mine, theirs in (
            (self.characters, other.characters),
            (self.seconds, other.seconds),
        ):
            for name, histogram in theirs.items():
                mine[name] = mine[name] + histogram if name in mine else histogram

    def kept_in(self, split: str) -> int:
        """Return how many records a split has."""
        return sum(count for key, count in self.kept.items() if key[0] == split)
