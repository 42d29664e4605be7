"""What happens to one row of a record file: it becomes a record, or it is rejected for a reason."""

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


@dataclass(slots=True)
class Draft:
    """A row as its format's reader understood it, before media and tags are checked.

    Attributes:
        messages: Turns as in the canonical record, the answer as the last one if there is any.
        images: Paths as the row has them; ``audios`` and ``videos`` likewise.
        solution: The right answer, as text or as the object a verdict is given as.
        task: Where the format tells it.
        gold: Columns of ``omnistage.records.record.GOLD``.
        clip_sound: Whether an ``<audio>`` tag without an item means the sound of the clip.
    """

    messages: list[dict[str, str]]
    images: list[str] = field(default_factory=list)
    audios: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    solution: str | dict[str, Any] | None = None
    task: str | None = None
    gold: dict[str, Any] = field(default_factory=dict)
    clip_sound: bool = False
