"""Arranges converted records: drops duplicates, mixes files by probability, balances A and B.

The records lie in a file, in the order they were converted in; what is remembered of each is its
size, its label and a digest, 13 bytes. They are copied into a new file in their new order.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from components.rewrite_paths.config import RewriteSettings
from components.rewrite_paths.convert.chunk import Rows
from components.rewrite_paths.convert.row import LABELLED, LABELS, count_seconds, histogram
from components.rewrite_paths.convert.tally import CHARACTER_BINS, Tally
from components.rewrite_paths.draft import Form
from components.rewrite_paths.media.index import MemberIndex
from components.rewrite_paths.select.swap import swap_candidates
from components.rewrite_paths.sources.files import MAX_ENTRIES, ORDER
from omnistage.records.answer import last_answer
from omnistage.records.mixing import interleave
from omnistage.records.record import TAGS, dump, modality_of

_A, _B = LABELS.index("A"), LABELS.index("B")


@dataclass(frozen=True)
class Balance:
    """How many records were exchanged to balance a split, and what is left to balance."""

    exchanged: int
    more_a_than_b: int


def needed(settings: RewriteSettings) -> bool:
    """Whether the recipe asks for anything that is done here."""
    return settings.balance or settings.deduplicate != "none" or any(_weights(settings))


def arrange(
    path: Path,
    target: Path,
    split: Form,
    rows: Rows,
    settings: RewriteSettings,
    index: MemberIndex,
    shown: Any,
    tally: Tally,
) -> Balance:
    """Copy the records of a split into their final order, and count them anew.

    Args:
        path: The records as converted.
        target: File to write.
        split: Which split it is.
        rows: What is remembered of the records.
        settings: The recipe.
        index: The members of the data set.
        shown: For each member whether a record of the split shows it; marked anew.
        tally: Its counts of this split are replaced; the durations of its media are added.
    """
    order = _ordered(split, rows, settings, tally)
    labels = rows.labels[order] if len(rows) else np.zeros(0, np.uint8)
    rng = np.random.default_rng([settings.seed, ORDER.index(split), 1])
    exchange = _Exchange(labels, rng if settings.balance else None)
    _forget(tally, split)
    characters: list[int] = []
    members: list[int] = []
    with target.open("wb") as out:
        for line, label in zip(_lines(path, rows, order), labels.tolist(), strict=True):
            record = orjson.loads(line)
            swapped = exchange.swapped(record, label)
            if swapped:
                record, line = swapped, dump(swapped)
            out.write(line)
            _count(tally, split, record)
            characters.append(sum(len(m["content"]) for m in record["messages"]))
            members.extend(index.at(shown) for name in TAGS for shown in record.get(name, []))
    if characters:
        tally.characters[split] = histogram(characters, CHARACTER_BINS)
    shown[:] = bytes(len(shown))
    if members:
        np.frombuffer(shown, dtype=np.uint8)[members] = 1
        count_seconds(index, np.array(members), tally.seconds)
    return exchange.balance


def _ordered(split: Form, rows: Rows, settings: RewriteSettings, tally: Tally) -> np.ndarray:
    """Return the places of the records that stay, in their order; the others are counted."""
    order = np.arange(len(rows))
    if settings.deduplicate != "none" and len(rows):
        _, first = np.unique(rows.keys, return_index=True)
        tally.leave_out(split, "duplicate", len(order) - len(first))
        order = np.sort(first)
    weights = [entry.weight for entry in getattr(settings, split) or []]
    if all(weights) and weights:
        mixed = _mix(order, rows, split, weights, settings)
        tally.leave_out(split, "mixing", len(order) - len(mixed))
        order = mixed
    return order


class _Exchange:
    """Exchanges A and B in as many records as balances them, which ones drawn at random.

    Args:
        labels: Place in ``LABELS`` of each record's answer.
        rng: Draws; None to exchange nothing.
    """

    def __init__(self, labels: np.ndarray, rng: np.random.Generator | None) -> None:
        a, b = (int(np.count_nonzero(labels == label)) for label in (_A, _B))
        self.surplus = a - b
        self.major, self.left = (_A, a) if a > b else (_B, b)
        self.wanted = abs(self.surplus) // 2
        self.exchanged = 0
        self.rng = rng

    def swapped(self, record: dict[str, Any], label: int) -> dict[str, Any] | None:
        """Return the next record with its candidates exchanged, or None to leave it as it is."""
        if self.rng is None or label != self.major or self.exchanged >= self.wanted:
            return None
        # This chance for each of those left makes the number exactly the one wanted.
        drawn = self.rng.random() * self.left < self.wanted - self.exchanged
        self.left -= 1
        swapped = swap_candidates(record) if drawn else None
        self.exchanged += swapped is not None
        return swapped

    @property
    def balance(self) -> Balance:
        """What was done, and what is left to balance."""
        done = 2 * self.exchanged
        return Balance(self.exchanged, self.surplus + (done if self.surplus < 0 else -done))


def _weights(settings: RewriteSettings) -> Iterator[float | None]:
    for split in ORDER:
        for entry in getattr(settings, split) or []:
            yield entry.weight


def _mix(
    order: np.ndarray,
    rows: Rows,
    split: Form,
    weights: Sequence[float | None],
    settings: RewriteSettings,
) -> np.ndarray:
    """Interleave the entries of a split at random, each with its own records in order."""
    groups = rows.groups[order]
    first = ORDER.index(split) * MAX_ENTRIES
    queues = [order[groups == first + place] for place in range(len(weights))]
    others = order[(groups < first) | (groups >= first + len(weights))]
    places = interleave(
        [len(queue) for queue in queues],
        [weight or 0.0 for weight in weights],
        settings.mix_until,
        [settings.seed, ORDER.index(split), 2],
    )
    left = [iter(queue) for queue in queues]
    mixed = [int(next(left[place])) for place in places]
    return np.concatenate([np.array(mixed, dtype=order.dtype), others])


def _lines(path: Path, rows: Rows, order: np.ndarray) -> Iterator[bytes]:
    ends = np.cumsum(rows.sizes, dtype=np.int64)
    with path.open("rb") as f:
        handle = f.fileno()
        for row in order:
            size = int(rows.sizes[row])
            yield os.pread(handle, size, int(ends[row]) - size)


def _forget(tally: Tally, split: str) -> None:
    for key in [key for key in tally.kept if key[0] == split]:
        del tally.kept[key]
    tally.characters.pop(split, None)


def _count(tally: Tally, split: str, record: dict[str, object]) -> None:
    task = str(record["task"])
    answer = record["better"] if task == "judge" else last_answer(str(record["solution"]))
    modality = modality_of(record)
    label = str(answer)[:32] if task in LABELLED else ""
    tally.kept[split, str(record["source"]), task, modality, label] += 1
