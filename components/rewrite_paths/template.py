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
from dataclasses import dataclass, field
from functools import cache
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
_MAX_FOLDERS = 4096
_ENDING = b"  \\n"  # what ends a path in OmniCritic's prompts, as it stands in JSON
_FILE = b" file:"
_LINE_END, _BACKSLASH, _MARK, _LESS = b'\n\\"<'
_NOWHERE = b"\xff"  # no path begins like this, since it is not UTF-8
_ANSWER = b'"},{"role":"assistant","content":"'
_SOLUTION = b'"],"solution":"'
_THINK = b"<think>"
# Names that look otherwise in JSON, or that the general path reads in a way of its own.
_ODD = re.compile(r'[^ -~]|["\\<]|  | file:|^ | $')
_QUOTE = b'\\\\\\"'  # a quotation mark in a text in a JSON text in JSON


@dataclass(frozen=True, slots=True)
class _Opening:
    """What stands before a verdict's reasoning tells the scores, and these tell the rest.

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


@cache
def _openings(last: bytes) -> dict[bytes, _Opening]:
    """Return the openings of all consistent verdicts, whose endings are followed by ``last``."""
    openings = {}
    for a in range(MAX_SCORE + 1):
        for b in range(MAX_SCORE + 1):
            better = better_of(a, b)
            verdict = {"score_A": a, "score_B": b, "better": better, "reasoning": "<think>\n"}
            verdict["final_verdict"] = f"<answer>[[{better}]]</answer>"
            text = orjson.dumps(json.dumps(verdict))[1:-1]
            opening, _, ending = text.partition(b"<think>\\\\n")
            gold = {"better": better, "score_A": a, "score_B": b}
            columns = b'",' + orjson.dumps(gold)[1:] + b"\n"
            escapes = (opening + ending).count(b"\\")
            openings[opening] = _Opening(better, b"</think>" + ending + last, columns, escapes)
    return openings


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a chunk, not taken apart.

    Attributes:
        text: The chunk.
        ends: Where each line ends, its line end not included.
        plain: Whether the text is UTF-8 without control characters, so that templates may be tried.
        ascii: Whether each byte is a character.
    """

    text: bytes
    ends: list[int]
    plain: bool
    ascii: bool

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, place: int) -> bytes:
        start = self.ends[place - 1] + 1 if place else 0
        return self.text[start : self.ends[place]]


def read_lines(text: bytes, scratch: np.ndarray) -> Lines:
    """Find the lines of a chunk, and whether templates may be tried on them.

    Args:
        text: The chunk.
        scratch: Room for as many truth values as it has bytes; memory of its own for each chunk
            would take longer to get than to fill.
    """
    # As signed numbers, control characters and what is not ASCII both are less than a space.
    codes = np.frombuffer(text, dtype=np.int8)
    special = np.flatnonzero(np.less(codes, 32, out=scratch[: len(text)]))
    found = codes[special]
    breaks = special[found == _LINE_END]
    only_ascii = plain = len(breaks) == len(special)
    if not plain and not ((found >= 0) & (found != _LINE_END)).any():
        try:
            text.decode()
            plain = True
        except UnicodeDecodeError:
            plain = False
    ends = breaks.tolist()
    if text and not text.endswith(b"\n"):
        ends.append(len(text))
    return Lines(text, ends, plain, only_ascii)


@dataclass(frozen=True, slots=True)
class Template:
    """The constant bytes of rows and of their records.

    A row is ``head PATH ENDING TEXT following … second … last``, with the path and the verdict in
    the gaps, in the order that ``path_first`` tells.

    Attributes:
        head: Up to the path in the prompt.
        following: After the prompt's text.
        second: Between the second path and the verdict.
        last: After both.
        path_first: Whether the second path comes before the verdict.
        slash: What separates the components of the path.
        medium: Media list of the record.
        before: Of the record, between the line number and the prompt's text.
        media: Of the record, before the path.
        openings: By what stands before the reasoning; their endings reach to the end of the row
            where the verdict comes last.
        characters: Of the record without the prompt's text and the verdict.
    """

    head: bytes
    following: bytes
    second: bytes
    last: bytes
    path_first: bool
    slash: bytes
    medium: str
    before: bytes
    media: bytes
    openings: dict[bytes, _Opening]
    characters: int


@dataclass(slots=True)
class Run:
    """What rows converted by templates came to, in their order.

    Attributes:
        pieces: The records in pieces, to be joined.
        characters: Of each record.
        members: The medium of each record.
        labels: ``A``, ``B`` or ``equal`` for each record.
    """

    pieces: list[bytes] = field(default_factory=list)
    characters: list[int] = field(default_factory=list)
    members: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


class Templates:
    """Converts plain rows of one file.

    Args:
        worker: The general path.
    """

    def __init__(self, worker: RowWorker) -> None:
        self.worker = worker
        self.known: list[Template] = []
        self.current: Template | None = None
        self._folders = worker.shared.folders
        entry, finder = worker.source.entry, worker.shared.finder
        self.usable = (
            entry.format in ("auto", "omnicritic", "omnicritic_old")
            and entry.task in (None, "judge")
            and worker.wish.key == "none"
            and not finder.rules
            and not finder.keep_paths
        )
        shared, wish, split = worker.shared, worker.wish, worker.source.split
        self._sft = split == "sft"
        self._filtered = wish.filtered or bool(shared.to_test) or wish.disjoint
        # Where this split marks what it shows, and what it must not share.
        unread = bytearray(len(shared.index))
        self._mine = {"test": shared.test_marks, "sft": shared.sft_marks}.get(split, unread)
        self._others = None if split == "test" else shared.test_marks
        self._id = b'{"id":' + orjson.dumps(worker.source.shown)[:-1] + b":"

    @property
    def pieces(self) -> int:
        """How many pieces a record has."""
        return 11 if self._sft else 9

    def switch(self, line: bytes) -> bool:
        """Make the template that a line begins like the current one, if that is another one."""
        found = next((t for t in self.known if line.startswith(t.head)), None)
        if found is None or found is self.current:
            return False
        self.current = found
        return True

    def convert(self, lines: Lines, at: int, first: int, run: Run) -> int:
        """Convert lines that the current template fits, up to one that is not plain.

        This loop is where the time goes; hence local names, ``partition`` instead of ``find``, and
        single bytes looked for as numbers, which each take half the time of the other way.

        Args:
            lines: Plain lines.
            at: Place of the first of them to convert.
            first: Number in the file of the first line, from 1.
            run: What they come to is added to it.

        Returns:
            Place of the line that is not plain; the number of lines if there is none.
        """
        template = self.current
        if template is None:
            return at
        text, ends, only_ascii = lines.text, lines.ends, lines.ascii
        head, following, second, last = (
            template.head,
            template.following,
            template.second,
            template.last,
        )
        to_path, over_last = len(head), len(last)
        path_first, sft = template.path_first, self._sft
        constant, before = template.characters, template.before
        begins, add, add_characters = text.startswith, run.pieces.extend, run.characters.append
        add_member, add_label = run.members.append, run.labels.append
        groups, openings, front = self.worker.shared.index.groups, template.openings, self._id
        filtered, mine, others = self._filtered, self._mine, self._others
        folder, names, shown = _NOWHERE, {}, b""
        start = ends[at - 1] + 1 if at else 0
        for place in range(at, len(ends)):
            if not begins(head, start):
                return place
            # Where the path, the question and the verdict are.
            stop = ends[place]
            path, _, rest = text[start + to_path : stop].partition(_ENDING)
            question, found, rest = rest.partition(following)
            one, more, other = rest.partition(second)
            if path_first:
                whole, verdict = one == path, other[:-over_last]
                scores, _, rest = other.partition(_THINK)
            else:
                whole, verdict = other == path + last, one
                scores, _, rest = one.partition(_THINK)
            if not (whole and found and more and question):
                return place
            # The question: no tag, no path, and no escapes but of line ends and quotation marks.
            bare = question.replace(b"\\n", b"")
            escapes = (len(question) - len(bare)) // 2
            if _BACKSLASH in bare or _MARK in bare:
                marks = bare.count(b'\\"')
                if bare.count(b"\\") != marks or bare.count(b'"') != marks or b"\\\\" in question:
                    return place
                escapes += marks
            if _LESS in bare or bare.partition(_FILE)[1]:
                return place
            # The verdict: perfect, and no escapes but of quotation marks.
            opening = openings.get(scores)
            if opening is None:
                return place
            thought, found, rest = rest.partition(opening.ending)
            if not found or rest or _LESS in thought:
                return place
            quotes = 0
            if _BACKSLASH in thought or _MARK in thought:
                quotes = thought.count(_QUOTE)
                if thought.count(b"\\") != 3 * quotes or thought.count(b'"') != quotes:
                    return place
            # The medium.
            lead, found, name = path.partition(folder)
            member = names.get(name) if found and not lead else None
            if member is None:
                folder, names, shown = self._enter_folder(template, path)
                name = path[len(folder) :]
                folder = folder or _NOWHERE
                member = names.get(name)
                if member is None:
                    return place
            characters = constant - escapes
            characters += len(question) if only_ascii else len(question.decode())
            if sft:
                characters += len(verdict) if only_ascii else len(verdict.decode())
                characters -= opening.escapes + 2 * quotes
            # Filters and other splits.
            group = groups[member]
            if (others is not None and others[group]) or (
                filtered and not self._wanted(member, characters)
            ):
                return place
            mine[group] = 1
            number = b"%d" % (first + place)
            back = (shown, name, _SOLUTION, verdict, opening.columns)
            if sft:
                add((front, number, before, question, _ANSWER, verdict, *back))
            else:
                add((front, number, before, question, *back))
            add_characters(characters)
            add_member(member)
            add_label(opening.label)
            start = stop + 1
        return len(ends)

    def _wanted(self, member: int, characters: int) -> bool:
        """Whether filters, the split and the wish for disjoint media let a record pass."""
        shared, wish = self.worker.shared, self.worker.wish
        if shared.to_test and shared.to_test[member]:
            return False
        if not wish.characters[0] <= characters <= wish.characters[1]:
            return False
        seconds = shared.index.seconds[member]
        if seconds and not wish.seconds[0] <= seconds <= wish.seconds[1]:
            return False
        disjoint = wish.disjoint and self.worker.source.split == "rl"
        return not (disjoint and shared.sft_marks[shared.index.groups[member]])

    def _enter_folder(
        self, template: Template, path: bytes
    ) -> tuple[bytes, dict[bytes, int], bytes]:
        """Return a path up to its name, the media there by name, and the record up to the name."""
        folder, slash, _ = path.rpartition(template.slash)
        try:
            names, shown = self._folders[template.medium, folder]
        except KeyError:
            names, shown = self._open_folder(template.medium, folder)
        return folder + slash, names, template.media + shown

    def _open_folder(self, medium: str, folder: bytes) -> tuple[dict[bytes, int], bytes]:
        """Return the plain names of media in a folder of the rows, and its path in records."""
        if len(self._folders) >= _MAX_FOLDERS:
            self._folders.clear()
        index = self.worker.shared.index
        table, prefix = self._read_folder(folder)
        fit = {
            name.encode(): member
            for name, member in table.items()
            if index.kinds[member] in FITS[medium] and not _ODD.search(name)
        }
        self._folders[medium, folder] = fit, prefix
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
        if any(line.startswith(template.head) for template in self.known):
            return
        medium, *strings = _strings(orjson.loads(line))
        template = self._derive(line, number, built, medium, *strings) if medium else None
        if template is None:
            return
        before, self.current = self.current, template
        again = Run()
        self.convert(Lines(line, [len(line)], True, line.isascii()), 0, number, again)
        same = Run(again.pieces, [built.characters], built.members, [built.count[-1]])
        if b"".join(again.pieces) == built.line and again == same:
            self.known.append(template)
        else:
            self.current = before

    def _derive(
        self,
        line: bytes,
        number: int,
        built: Built,
        medium: str,
        raw: str,
        prompt: str,
        answer: str,
    ) -> Template | None:
        _, found, text = prompt.partition(f"{LINES[medium]}{raw}  \n")
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
        media = b'"}],"' + medium.encode() + b'":["'
        end = built.line.find(_ANSWER if self._sft else media)
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
            medium,
            built.line[len(front) : end - len(question)],
            media,
            _openings(last if at_path < at_verdict else b""),
            built.characters - len(text) - (len(answer) if self._sft else 0),
        )


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
