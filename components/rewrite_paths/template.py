"""A short cut for the plain rows of OmniCritic's files, which are most of them.

The rows of a file are alike but for a path (which stands twice), a question and a verdict. When the
general path has converted such a row, its line and its record are taken apart into these strings
and the constant bytes between them: a template. A later line with the same constants is the same
JSON with other strings in it, so its record is put together from the template without parsing it.

The result is the one that the general path gives, byte for byte. What could make a difference is
checked: that the strings are well-formed, hold no tags or further paths, that the verdict is
perfect, that the medium is found and no filter or other split objects. A row that fails a check is
left to the general path.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from components.rewrite_paths.members import FITS, clean
from components.rewrite_paths.rows import RowError
from components.rewrite_paths.rowwork import Built, RowWorker
from components.rewrite_paths.texts import LINES
from omnistage.records import TAGS
from omnistage.verdict import MAX_SCORE, better_of

MAX_TEMPLATES = 32
NO_LINE = b"\xff\xff"
"""Begins no line of UTF-8."""
_MAX_FOLDERS = 4096
_ENDING = b"  \\n"  # what ends a path in OmniCritic's prompts, as it stands in JSON
_FILE = b" file:"
_THINK = b"<think>"
# Names that look otherwise in JSON, or that the general path reads in a way of its own.
_ODD = re.compile(r'[^ -~]|["\\<]|  | file:|^ | $')
_QUOTE = b'\\\\\\"'  # a quotation mark in a text in a JSON text in JSON


@dataclass(frozen=True, slots=True)
class _Opening:
    """What stands before a verdict's reasoning, by its scores, and what that implies.

    Attributes:
        label: ``A``, ``B`` or ``equal``.
        ending: What must follow the reasoning.
        columns: End of the record, with the gold columns.
        escapes: Backslashes in opening and ending, none of which is a character.
    """

    label: str
    ending: bytes
    columns: bytes
    escapes: int


def _openings() -> dict[bytes, _Opening]:
    openings = {}
    for a in range(MAX_SCORE + 1):
        for b in range(MAX_SCORE + 1):
            better = better_of(a, b)
            verdict = {"score_A": a, "score_B": b, "better": better, "reasoning": "<think>\n"}
            verdict["final_verdict"] = f"<answer>[[{better}]]</answer>"
            text = orjson.dumps(json.dumps(verdict))[1:-1]
            opening, _, ending = text.partition(b"\\\\n")
            gold = {"better": better, "score_A": a, "score_B": b}
            columns = b'",' + orjson.dumps(gold)[1:] + b"\n"
            escapes = opening.count(b"\\") + ending.count(b"\\")
            openings[opening] = _Opening(better, b"</think>" + ending, columns, escapes)
    return openings


_OPENINGS = _openings()


@dataclass(frozen=True, slots=True)
class Template:
    """The constant bytes of rows and of their records.

    A row is ``head PATH ENDING TEXT first … second … last`` with the path and the verdict between,
    in the order that ``path_first`` tells.

    Attributes:
        head: Up to the path in the prompt.
        first: After the prompt's text.
        second: Between the second path and the verdict.
        last: After both.
        path_first: Whether the second path comes before the verdict.
        slash: What separates the components of the path.
        field: Media list of the record.
        before: Of the record, between the line number and the prompt's text.
        media: Of the record, before the path.
        characters: Of the record without the prompt's text and the verdict.
    """

    head: bytes
    first: bytes
    second: bytes
    last: bytes
    path_first: bool
    slash: bytes
    field: str
    before: bytes
    media: bytes
    characters: int


Converted = tuple[tuple[bytes, ...], str, str, int, int]
"""Pieces of a record, its media list, its label, its characters and its medium."""


class Templates:
    """Converts plain rows of one file.

    Args:
        worker: The general path.
    """

    def __init__(self, worker: RowWorker) -> None:
        self.worker = worker
        self.known: list[Template] = []
        self.current: Template | None = None
        self._folders: dict[tuple[str, bytes], tuple[dict[bytes, int], bytes]] = {}
        entry, finder = worker.source.entry, worker.shared.finder
        self.usable = (
            entry.format in ("auto", "omnicritic", "omnicritic_old")
            and entry.task in (None, "judge")
            and worker.wish.key == "none"
            and not finder.rules
            and not finder.keep_paths
        )
        self._sft = worker.source.split == "sft"
        self._id = b'{"id":' + orjson.dumps(worker.source.shown)[:-1] + b":"

    @property
    def head(self) -> bytes:
        """How lines begin that the current template is for."""
        return self.current.head if self.current else NO_LINE

    def find(self, line: bytes) -> bool:
        """Make the template that a line begins like the current one, if one is known."""
        for template in self.known:
            if line.startswith(template.head):
                self.current = template
                return True
        return False

    def convert(self, line: bytes, number: int) -> Converted | None:
        """Convert a line that begins like the current template.

        Args:
            line: The row's bytes, known to be UTF-8 without control characters.
            number: Its number in the file, from 1.

        Returns:
            None if the row is not plain.
        """
        template = self.current
        strings = _split(line, template) if template else None
        if template is None or strings is None:
            return None
        path, text, begin, finish = strings
        # The question: no tag, no path, and no escapes but of line ends and quotation marks.
        bare = text.replace(b"\\n", b"")
        escapes = (len(text) - len(bare)) // 2
        if b"\\" in bare or b'"' in bare:
            marks = bare.count(b'\\"')
            if bare.count(b"\\") != marks or bare.count(b'"') != marks or b"\\\\" in text:
                return None
            escapes += marks
        if b"<" in bare or _FILE in text:
            return None
        # The verdict: perfect, and no escapes but of quotation marks.
        think = line.find(_THINK, begin) + len(_THINK)
        opening = _OPENINGS.get(line[begin:think])
        if opening is None or not line.startswith(opening.ending, finish - len(opening.ending)):
            return None
        thought = line[think : finish - len(opening.ending)]
        bare = thought.replace(_QUOTE, b"")
        if b"\\" in bare or b'"' in bare or b"<" in bare:
            return None
        # The medium.
        folder, _, name = path.rpartition(template.slash)
        try:
            table, prefix = self._folders[template.field, folder]
        except KeyError:
            table, prefix = self._open_folder(template.field, folder)
        member = table.get(name)
        if member is None:
            return None
        verdict = line[begin:finish]
        characters = template.characters - escapes
        characters += len(text) if line.isascii() else len(text.decode())
        if self._sft:
            characters += len(verdict) if line.isascii() else len(verdict.decode())
            characters -= opening.escapes + (len(thought) - len(bare)) // 2
        if not self._wanted(member, characters):
            return None
        front = (self._id, b"%d" % number, template.before, text)
        back = (template.media, prefix, name, b'"],"solution":"', verdict, opening.columns)
        if self._sft:
            parts = (*front, b'"},{"role":"assistant","content":"', verdict, *back)
        else:
            parts = front + back
        return parts, template.field, opening.label, characters, member

    def _wanted(self, member: int, characters: int) -> bool:
        """Whether no filter and no other split objects; marks the medium as seen."""
        worker = self.worker
        shared = worker.shared
        group = shared.index.groups[member]
        if shared.test_marks[group] and worker.source.split != "test":
            return False
        if shared.to_test and shared.to_test[member]:
            return False
        if worker.wish.filtered:
            if not worker.wish.characters[0] <= characters <= worker.wish.characters[1]:
                return False
            seconds = shared.index.seconds[member]
            if seconds and not worker.wish.seconds[0] <= seconds <= worker.wish.seconds[1]:
                return False
        if self._sft:
            shared.sft_marks[group] = 1
            return True
        if worker.source.split == "test":
            shared.test_marks[group] = 1
            return True
        return not (worker.wish.disjoint and shared.sft_marks[group])

    def _open_folder(self, field: str, folder: bytes) -> tuple[dict[bytes, int], bytes]:
        """Return the plain names of media in a folder of the rows, and its path in records."""
        if len(self._folders) >= _MAX_FOLDERS:
            self._folders.clear()
        index = self.worker.shared.index
        table, prefix = self._read_folder(folder)
        fit = {
            name.encode(): member
            for name, member in table.items()
            if index.kinds[member] in FITS[field] and not _ODD.search(name)
        }
        self._folders[field, folder] = fit, prefix
        return fit, prefix

    def _read_folder(self, folder: bytes) -> tuple[dict[str, int], bytes]:
        index = self.worker.shared.index
        try:
            raw: str = orjson.loads(b'"' + folder + b'"')
            plain = raw.replace("\\", "/")
            known = clean(f"{plain}/x").rpartition("/")[0] if plain else ""
        except (orjson.JSONDecodeError, RowError):
            return {}, b""
        table = None if known != plain or _ODD.search(plain) else index.table(known)
        if not table:
            return {}, b""
        shown = index.path(next(iter(table.values()))).rpartition("/")[0]
        # The folder of the data set may be written in several forms of Unicode.
        if not shown.isascii():
            return {}, b""
        return table, orjson.dumps(f"{shown}/" if shown else "")[1:-1]

    def learn(self, line: bytes, number: int, built: Built) -> None:
        """Derive a template from a line and the record that the general path made of it."""
        if not self.usable or len(self.known) >= MAX_TEMPLATES or len(built.members) != 1:
            return
        if built.split != self.worker.source.split:
            return
        field, *strings = _strings(orjson.loads(line))
        template = self._derive(line, number, built, field, *strings) if field else None
        if template is None or any(template.head == known.head for known in self.known):
            return
        before, self.current = self.current, template
        again = self.convert(line, number)
        same = (field, built.count[-1], built.characters, built.members[0])
        if again and b"".join(again[0]) == built.line and again[1:] == same:
            self.known.append(template)
        else:
            self.current = before

    def _derive(
        self,
        line: bytes,
        number: int,
        built: Built,
        field: str,
        raw: str,
        prompt: str,
        answer: str,
    ) -> Template | None:
        _, found, text = prompt.partition(f"{LINES[field]}{raw}  \n")
        path, question, verdict = (orjson.dumps(value)[1:-1] for value in (raw, text, answer))
        start = line.find(path + _ENDING + question)
        head = line[: max(start, 0)]
        rest = line[start + len(path + _ENDING + question) :]
        at_path, at_verdict = rest.find(b'"' + path + b'"') + 1, rest.find(verdict)
        if not (found and text and at_path > 0 < at_verdict and head.count(_FILE) == 1):
            return None
        (at, one), (after, other) = sorted([(at_path, path), (at_verdict, verdict)])
        first, second = rest[:at], rest[at + len(one) : after]
        last = rest[after + len(other) :]
        # The strings must be whole: between quotation marks.
        whole = first[:1] + first[-1:] + second[:1] + second[-1:] + last[:1] == b'"""""'
        media = b'"}],"' + field.encode() + b'":["'
        end = built.line.find(b'"},{"role":"assistant"' if self._sft else media)
        front = self._id + b"%d" % number
        if not (whole and built.line.startswith(front) and built.line[:end].endswith(question)):
            return None
        return Template(
            head,
            first,
            second,
            last,
            at_path < at_verdict,
            b"\\\\" if b"\\" in path else b"/",
            field,
            built.line[len(front) : end - len(question)],
            media,
            built.characters - len(text) - (len(answer) if self._sft else 0),
        )


def _split(line: bytes, template: Template) -> tuple[bytes, bytes, int, int] | None:
    """Return the path and the text of a row, and where its verdict begins and ends."""
    start = len(template.head)
    end = line.find(_ENDING, start)
    at = end + len(_ENDING)
    stop = line.find(template.first, at)
    if end < 0 or stop <= at:
        return None
    path = line[start:end]
    place = stop + len(template.first)
    if template.path_first:
        if not line.startswith(path + template.second, place) or not line.endswith(template.last):
            return None
        begin = place + len(path) + len(template.second)
        return path, line[at:stop], begin, len(line) - len(template.last)
    finish = line.find(template.second, place)
    if finish < 0 or line[finish + len(template.second) :] != path + template.last:
        return None
    return path, line[at:stop], place, finish


def plain_bytes(text: bytes, lines: int, scratch: np.ndarray) -> bool:
    """Whether a chunk is UTF-8 and holds no control characters but its line ends.

    Args:
        text: The chunk.
        lines: How many line ends it has.
        scratch: Room for as many truth values as it has bytes; memory of its own for each chunk
            would take longer to get than to fill.
    """
    controls = scratch[: len(text)]
    np.less(np.frombuffer(text, dtype=np.uint8), 32, out=controls)
    if int(np.count_nonzero(controls)) != lines:
        return False
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _strings(row: Mapping[str, Any]) -> tuple[str | None, str, str, str]:
    """Return the media list, the path, the prompt and the verdict of a plain row.

    The media list is None if the row is not plain: one medium, one verdict, no further columns.
    """
    nothing = (None, "", "", "")
    old = "input" in row
    media = [key for key in row if key.rstrip("s") + "s" in TAGS]
    rest = set(row) - set(media) - ({"input", "output"} if old else {"messages", "solution"})
    if len(media) != 1 or rest:
        return nothing
    path = row[media[0]]
    if isinstance(path, list) and len(path) == 1:
        path = path[0]
    if old:
        prompt, answers = row["input"], [row["output"]]
    else:
        turns = row["messages"]
        prompt = next(turn["content"] for turn in turns if turn["role"] == "user")
        answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
        answers += [row["solution"]] if "solution" in row else []
        if sum(turn["role"] == "user" for turn in turns) != 1:
            return nothing
    answer = answers[0] if len(answers) == 1 else None
    if not (isinstance(path, str) and isinstance(prompt, str) and isinstance(answer, str)):
        return nothing
    return media[0].rstrip("s") + "s", path, prompt, answer
