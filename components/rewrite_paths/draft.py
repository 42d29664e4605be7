"""What happens to one row of a record file: it becomes a record, or it is rejected for a reason."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Form = Literal["sft", "rl", "test"]

MISSING = frozenset({"missing_file", "ambiguous_file", "undecodable_media"})
"""Reasons that the setting ``on_missing`` is about; ``LEAKS`` never stop, the rest is bad."""
LEAKS = frozenset({"shares_media_with_test", "shares_media_with_sft"})


class RowError(Exception):
    """A row cannot become a record.

    Attributes:
        reason: Short name that rows are counted by.
        detail: What is wrong with this row, for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Row(Mapping[str, Any]):
    """A row that remembers which of its columns were read.

    Asking whether a column is there does not count as reading it.

    Args:
        values: The columns.
        seed: Of the order in which two answers are shown that the row has in none.
    """

    def __init__(self, values: Mapping[str, Any], seed: int = 0) -> None:
        self._values = values
        self.seed = seed
        self.used: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        self.used.add(key)
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def peek(self, key: str) -> Any:
        """Return a column without counting it as read, or None."""
        return self._values.get(key)


@dataclass(slots=True)
class Draft:
    """A row as its format's reader understood it, before media and tags are checked.

    Attributes:
        messages: Turns as in the canonical record, the answer as the last one if there is any.
        images: Paths as the row has them; ``audios`` and ``videos`` likewise.
        solution: The right answer, as text or as the object a verdict is given as.
        task: Where the format tells it.
        gold: Columns of ``omnistage.records.record.GOLD``.
        objects: Boxes and names that ``<bbox>`` and ``<ref-object>`` stand for.
        quotes: Whether its two candidates come from columns, so that they hold no medium's place.
        hidden: Marks in the text, each with what a candidate says there, which shows no media.
        clip_sound: Whether an ``<audio>`` tag without an item means the sound of the clip.
        places: The media list of each part that has a medium's place and no path.
        dropped: Columns of the row that the record does not have.
        unread: Those of them that hold what may be the path of a medium, or "" for a medium itself,
            where the row shows none.
    """

    messages: list[dict[str, Any]]
    images: list[str] = field(default_factory=list)
    audios: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    solution: str | dict[str, Any] | None = None
    task: str | None = None
    gold: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, Any] | None = None
    quotes: bool = False
    hidden: dict[str, str] = field(default_factory=dict)
    clip_sound: bool = False
    places: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
