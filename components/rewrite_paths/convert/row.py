"""Converts the rows of one record file: from bytes to the bytes of a record, or a rejection."""

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from components.rewrite_paths.config import QUESTION
from components.rewrite_paths.convert.answer import normalize_answer
from components.rewrite_paths.convert.converted import ConvertedRow, ConvertedRows, Reading
from components.rewrite_paths.convert.tally import SECOND_BINS
from components.rewrite_paths.draft import Draft, Form, RowError
from components.rewrite_paths.formats.grounding import check_images
from components.rewrite_paths.formats.numbers import (
    check_keys,
    count_keys,
    has_float,
    loads_exact,
    raw_number,
)
from components.rewrite_paths.formats.read_row import read_row
from components.rewrite_paths.media.finder import MediaFinder
from components.rewrite_paths.media.index import AUDIO, SOUND_CLIP, VIDEO, MemberIndex
from components.rewrite_paths.sources.files import Source
from omnistage.records.answer import last_answer
from omnistage.records.record import TAGS, dump, modality_of

LABELLED = frozenset({"judge", "choice", "multi_choice", "yes_no", "emotion"})
"""Tasks whose answers are few enough to be counted one by one."""
_LISTS = {AUDIO: "audios", VIDEO: "videos", SOUND_CLIP: "videos"}
LABELS = ("", "A", "B", "equal")
_SPACED = re.compile(rb'"\s+:')
_DEPTH = 250  # orjson reads deeper values than it writes, and Python's json than neither


@dataclass
class ConversionState:
    """What all files of a run have in common; in several processes the marks are shared memory.

    Attributes:
        index: Members of the data set.
        finder: Finds media.
        test_marks: For each member that stands for a group: whether a test record shows it.
        sft_marks: The same for records to fine-tune on.
        shown: For each split and member: whether a record of the split shows it.
        to_test: For each member: whether records that show it become test records; empty for none.
        seed: Of the order in which preferences show their answers.
        test_texts: Digests of the prompts of test records without media.
        text_threshold: Digests of prompts below this become test records; 0 without a split.
        folders: Names and path of folders that templates have met, see ``fast_path.py``.
        converted: Rows that were converted while they were grouped.
    """

    index: MemberIndex
    finder: MediaFinder
    test_marks: Any
    sft_marks: Any
    shown: Mapping[str, Any]
    to_test: bytes = b""
    seed: int = 0
    test_texts: set[bytes] = field(default_factory=set)
    text_threshold: int = 0
    folders: dict[tuple[str, bytes], tuple[dict[bytes, int], bytes]] = field(default_factory=dict)
    converted: ConvertedRows = field(default_factory=ConvertedRows)


@dataclass(frozen=True)
class RecordFilters:
    """The settings that decide about whole records.

    Attributes:
        disjoint: Whether RL records may not show what SFT records show.
        characters: Least and most characters.
        seconds: Least and most seconds of each sound or clip.
        filtered: Whether there are bounds at all.
        key: What makes two records the same: ``row``, ``prompt`` or ``none``.
    """

    disjoint: bool
    characters: tuple[float, float]
    seconds: tuple[float, float]
    filtered: bool
    key: str


class LeftOutError(Exception):
    """The recipe does not want this record; the message says why, in one word."""


class RowConverter:
    """Converts rows of one file.

    Args:
        source: The file.
        state: What all files have in common.
        filters: What records are wanted.
        gives_test: Whether rows of this file may become test records by the split.
    """

    def __init__(
        self, source: Source, state: ConversionState, filters: RecordFilters, gives_test: bool
    ) -> None:
        self.source = source
        self.state = state
        self.filters = filters
        self.gives_test = gives_test

    def convert(self, line: bytes, number: int) -> ConvertedRow:
        """Convert one line.

        Args:
            line: The row's bytes.
            number: Its number in the file, from 1.

        Raises:
            RowError: If the row cannot become a record.
            LeftOutError: If the recipe does not want it.
        """
        own = self.source.split
        made = self.state.converted.get(self.source, number)
        reading = None if made else self.read(line, own)
        first = made or reading
        assert first
        split = self.split_of(first.members, first.prompt)
        if split != own:  # what a column means depends on the split
            made, reading = None, self.read(line, split)
        if made is None:
            assert reading
            made = self.finish(reading, number, split)
        self.check_wanted(made.characters, made.members)
        self.check_leaks(split, made.members, made.prompt)
        return made

    def read(self, line: bytes, split: Form) -> Reading:
        """Read a line and find its media.

        Raises:
            RowError: If it cannot be read.
        """
        entry = self.source.entry
        draft = read_row(parse(line), entry.format, split, self.state.seed, entry.columns)
        if entry.system and draft.messages[0]["role"] != "system":
            draft.messages.insert(0, {"role": "system", "content": entry.system})
        if entry.prompt:
            asked = next(m for m in reversed(draft.messages) if m["role"] == "user")
            asked["content"] = entry.prompt.replace(QUESTION, asked["content"])
        media = self.state.finder.resolve_media(draft)
        members = media.all()
        return Reading(draft, media, members, b"" if members else prompt_digest(draft))

    def finish(self, reading: Reading, number: int, split: Form) -> ConvertedRow:
        """Make the record of a line that was read for a split.

        Raises:
            RowError: If it cannot become a record.
        """
        draft, members = reading.draft, reading.members
        check_images(draft.objects, len(reading.media.images))
        task, solution, gold = normalize_answer(draft, self.source.entry.task, split)
        path = self.state.index.path
        record = {
            "id": f"{self.source.shown}:{number}",
            "source": self.source.label,
            "task": task,
            "messages": draft.messages,
            **{name: [path(m) for m in getattr(reading.media, name)] for name in TAGS},
            "objects": draft.objects,
            "solution": solution,
            **gold,
        }
        try:
            data = dump(record, raw_number)
        except orjson.JSONEncodeError as e:
            raise RowError("bad_field", f"a text is not valid Unicode: {e}") from e
        label = last_answer(solution) if task != "judge" else str(gold["better"])
        labelled = label[:32] if task in LABELLED else ""
        return ConvertedRow(
            split,
            data,
            (split, self.source.label, task, modality_of(record), labelled),
            sum(len(m["content"]) for m in draft.messages),
            members,
            LABELS.index(label) if task == "judge" else 0,
            self._key(draft, split, members, solution),
            (*draft.dropped, *(key for key in draft.gold if key not in gold)),
            reading.prompt,
        )

    def split_of(self, members: list[int], prompt: bytes) -> Form:
        """Return the split that a record belongs to.

        Args:
            members: What it shows.
            prompt: Digest of its prompt if it shows nothing.

        Raises:
            LeftOutError: If another file already gives this test record.
        """
        own = self.source.split
        state = self.state
        if own == "test" or not state.text_threshold:
            return own
        if members:
            chosen = bool(state.to_test[members[0]])
        else:
            chosen = int.from_bytes(prompt) < state.text_threshold
        if chosen and not self.gives_test:
            raise LeftOutError("in_test")
        return "test" if chosen else own

    def check_wanted(self, characters: int, members: list[int]) -> None:
        """Apply the filters.

        Raises:
            LeftOutError: If the record is too short or too long.
        """
        least, most = self.filters.characters
        if not least <= characters <= most:
            raise LeftOutError("length")
        least, most = self.filters.seconds
        seconds = self.state.index.seconds
        if any(seconds[m] >= 0 and not least <= seconds[m] <= most for m in members):
            raise LeftOutError("duration")

    def check_leaks(self, split: Form, members: list[int], prompt: bytes) -> None:
        """Mark what a record shows, and refuse what another split must not share.

        Args:
            split: Where it goes.
            members: What it shows.
            prompt: Digest of its prompt if it shows nothing.

        Raises:
            RowError: If the record shows what a test record shows.
        """
        state = self.state
        groups = [state.index.first_duplicate[m] for m in members]
        if split == "test":
            for group in groups:
                state.test_marks[group] = 1
            if prompt:
                state.test_texts.add(prompt)
            return
        for group, member in zip(groups, members, strict=True):
            if state.test_marks[group]:
                raise RowError(
                    "shares_media_with_test",
                    f"{state.index.path(member)} is in a test record",
                )
            if split == "rl" and self.filters.disjoint and state.sft_marks[group]:
                raise RowError(
                    "shares_media_with_sft",
                    f"{state.index.path(member)} is in a record to fine-tune on",
                )
        if prompt and prompt in state.test_texts:
            raise RowError("shares_media_with_test", "a test record has the same prompt")
        if split == "sft":
            for group in groups:
                state.sft_marks[group] = 1

    def _key(self, draft: Draft, split: Form, members: list[int], solution: str) -> int:
        if self.filters.key == "none":
            return 0
        turns = draft.messages[:-1] if split == "sft" else draft.messages
        groups = [self.state.index.first_duplicate[m] for m in members]
        parts = [turns, groups, solution if self.filters.key == "row" else None]
        return int.from_bytes(hashlib.blake2b(orjson.dumps(parts), digest_size=8).digest())


def parse(line: bytes) -> Any:
    """Parse a line; numbers keep their text.

    Raises:
        RowError: ``not_json``; also for what is nested deeper than JSON is written here.
            ``bad_field`` for a key that an object has twice.
    """
    try:
        row = orjson.loads(line)
        if line.count(b"[") + line.count(b"{") > _DEPTH:
            orjson.dumps(row)
        # Of two equal keys readers take the last. Each key has a quotation mark and a colon; texts
        # may too, so that only a closer look tells.
        if count_keys(row) != line.count(b'":') - line.count(b'\\":') or _SPACED.search(line):
            check_keys(line)
        # A number is the same to every reader only where it is whole and short.
        return loads_exact(line) if has_float(row) or b"-0" in line else row
    except (ValueError, orjson.JSONEncodeError) as e:
        return _parse_odd(line, e)


_NO_NUMBER = re.compile(rb"[:\[,]\s*-?(NaN|Infinity)\s*[,}\]]")


def _parse_odd(line: bytes, error: ValueError | TypeError) -> Any:
    """Parse a line that orjson refuses: it may have a number that is too large for a float.

    Raises:
        RowError: ``not_json``, with the cause.
    """
    if found := _NO_NUMBER.search(line):
        name = found[1].decode()
        raise RowError("not_json", f"{name} is no value of JSON; write null") from error
    if "infinity" in str(error):
        with contextlib.suppress(ValueError, RecursionError):
            row = loads_exact(line)
            check_keys(line)
            return row
    raise RowError("not_json", str(error)) from error


def prompt_digest(draft: Draft) -> bytes:
    """Return 8 bytes that stand for the user turns of a draft."""
    text = "\0".join(m["content"] for m in draft.messages if m["role"] == "user")
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()


def count_seconds(index: MemberIndex, members: np.ndarray, counts: dict[str, np.ndarray]) -> None:
    """Add the durations of sounds and clips to their histograms.

    Args:
        index: The members of the data set.
        members: Those shown, each as often as it is shown.
        counts: By media list; changed in place.
    """
    kinds = np.frombuffer(index.kinds, dtype=np.uint8)[members]
    seconds = np.frombuffer(index.seconds, dtype=np.float32)[members]
    for kind, name in _LISTS.items():
        known = seconds[(kinds == kind) & (seconds >= 0)]
        if len(known):
            counts[name] = counts.get(name, 0) + histogram(known, SECOND_BINS)


def histogram(values: Any, bins: np.ndarray) -> np.ndarray:
    """Return how many values fall into each bin; what is above the last counts into it.

    Each bin holds its lower edge and not its upper one. ``np.histogram`` does the same in five
    times the time, which matters for chunks of a few hundred rows.
    """
    places = np.searchsorted(bins, np.asarray(values, dtype=np.float64), side="right") - 1
    return np.bincount(np.minimum(places, len(bins) - 2), minlength=len(bins) - 1)
