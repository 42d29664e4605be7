"""A short cut for the plain rows of OmniCritic's files, which are most of them.

Such rows follow a template (see ``template.py``), so that their records are put together without
parsing them. The result is the one that the general path gives, byte for byte. What could make a
difference is checked: that the strings are well-formed, hold no tags or further paths, that the
verdict is perfect, that the medium is found and no filter or other split objects. A row that fails
a check is left to the general path.
"""

from dataclasses import dataclass, field

import numpy as np
import orjson

from components.rewrite_paths.convert.converted import ConvertedRow
from components.rewrite_paths.convert.row import RowConverter
from components.rewrite_paths.convert.template import ANSWER, ENDING, FILE, Template, derive
from components.rewrite_paths.draft import RowError
from components.rewrite_paths.media.index import FITS, clean
from components.rewrite_paths.sources.lines import Lines

MAX_TEMPLATES = 32
_MAX_FOLDERS = 4096
_BACKSLASH, _MARK, _LESS = b'\\"<'
_NOWHERE = b"\xff"  # no path begins like this, since it is not UTF-8
_SOLUTION = b'"],"solution":"'
_THINK = b"<think>"
_QUOTE = b'\\\\\\"'  # a quotation mark in a text in a JSON text in JSON
_ODD = ('"', "\\", "<", "  ", " file:", " /", "/ ")


@dataclass(slots=True)
class FastPathRows:
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

    def __init__(self, worker: RowConverter) -> None:
        self.worker = worker
        self.known: list[Template] = []
        self.current: Template | None = None
        self._folders = worker.state.folders
        entry, finder = worker.source.entry, worker.state.finder
        self.usable = (
            entry.format in ("auto", "omnicritic", "omnicritic_old")
            and entry.task in (None, "judge")
            and worker.filters.key == "none"
            and not entry.columns
            and not entry.system
            and not entry.prompt
            and not finder.rules
            and not finder.keep_paths
            and not finder.index.stretched
        )
        state, filters, split = worker.state, worker.filters, worker.source.split
        self._sft = split == "sft"
        self._filtered = filters.filtered or bool(state.to_test) or filters.disjoint
        # Where this split marks what it shows, and what it must not share. Test records are there
        # before the others are read, except for those that the others give.
        marks = {"test": state.test_marks, "sft": state.sft_marks}.get(split)
        self._mine = None if marks is None else np.frombuffer(marks, dtype=np.uint8)
        self._first_duplicate = np.frombuffer(state.index.first_duplicate, dtype=np.uintc)
        shown = bool(state.to_test) or np.frombuffer(state.test_marks, dtype=np.uint8).any()
        self._others = state.test_marks if shown and split != "test" else None
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

    def convert(self, lines: Lines, at: int, first: int, run: FastPathRows) -> int:
        """Convert lines that the current template fits, up to one that is not plain.

        This loop is where the time goes; hence local names, ``partition`` instead of ``find`` and
        ``count``, ``rpartition`` where it does not matter which is found, since the first byte of
        what is looked for is rarer than the last, and single bytes looked for as numbers. Each
        takes half the time of the other way (``python -m benchmarks.rewrite``), which is why this
        is one long function.

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
        first_duplicate = self.worker.state.index.first_duplicate
        openings, front = template.openings, self._id
        filtered, others = self._filtered, self._others
        folder, names, shown = _NOWHERE, {}, b""
        start = ends[at - 1] + 1 if at else 0
        for place in range(at, len(ends)):
            if not begins(head, start):
                return place
            # Where the path, the question and the verdict are.
            stop = ends[place]
            path, _, rest = text[start + to_path : stop].partition(ENDING)
            question, found, rest = rest.partition(following)
            if path_first:
                one, more, other = rest.partition(second)
                whole, verdict = one == path, other[:-over_last]
                scores, _, rest = other.partition(_THINK)
            else:
                verdict, more, other = rest.rpartition(second)
                whole = other == path + last
                scores, _, rest = verdict.partition(_THINK)
            if not (whole and found and more and question):
                return place
            # The question: no tag, no path, and no escapes but of line ends and quotation marks.
            escapes = marks = 0
            _, escaped, after = question.partition(b"\\")
            while escaped:
                escapes += 1
                if after[:1] != b"n":
                    if after[:1] != b'"':
                        return place
                    marks += 1
                _, escaped, after = after.partition(b"\\")
            if _MARK in question and question.count(_MARK) != marks:
                return place
            if _LESS in question or question.rpartition(FILE)[1]:
                return place
            # The verdict: perfect, and no escapes but of quotation marks.
            opening = openings.get(scores)
            if opening is None or not rest.endswith(opening.ending):
                return place
            thought = rest[: -len(opening.ending)]
            if _LESS in thought:
                return place
            quotes = 0
            if _BACKSLASH in thought or _MARK in thought:
                quotes = thought.count(_QUOTE)
                if thought.count(_BACKSLASH) != 3 * quotes or thought.count(_MARK) != quotes:
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
            if (others is not None and others[first_duplicate[member]]) or (
                filtered and not self._wanted(member, characters)
            ):
                return place
            number = b"%d" % (first + place)
            columns = opening.columns
            if sft:
                add((front, number, before, question, ANSWER))
                add((verdict, shown, name, _SOLUTION, verdict, columns))
            else:
                add((front, number, before, question, shown, name, _SOLUTION, verdict, columns))
            add_characters(characters)
            add_member(member)
            add_label(opening.label)
            start = stop + 1
        return len(ends)

    def mark(self, run: FastPathRows) -> None:
        """Mark what the records of a run show, for splits that must not share it."""
        if self._mine is not None:
            self._mine[self._first_duplicate[run.members]] = 1

    def _wanted(self, member: int, characters: int) -> bool:
        """Whether the filters, the split and the rule on disjoint media let a record pass."""
        state, filters = self.worker.state, self.worker.filters
        if state.to_test and state.to_test[member]:
            return False
        if not filters.characters[0] <= characters <= filters.characters[1]:
            return False
        seconds = state.index.seconds[member]
        if seconds >= 0 and not filters.seconds[0] <= seconds <= filters.seconds[1]:
            return False
        disjoint = filters.disjoint and self.worker.source.split == "rl"
        return not (disjoint and state.sft_marks[state.index.first_duplicate[member]])

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
        index = self.worker.state.index
        table, prefix = self._read_folder(folder)
        # All names at once, since a set of media has many names and hardly ever an odd one.
        if _is_odd("/".join(table)) or list(map(index.name, table.values())) != list(table):
            table = {n: m for n, m in table.items() if not _is_odd(n) and n == index.name(m)}
        kinds, fitting = index.kinds, FITS[medium]
        fit = {name.encode(): m for name, m in table.items() if kinds[m] in fitting}
        self._folders[medium, folder] = fit, prefix
        return fit, prefix

    def _read_folder(self, folder: bytes) -> tuple[dict[str, int], bytes]:
        index = self.worker.state.index
        try:
            raw: str = orjson.loads(b'"' + folder + b'"')
            plain = raw.replace("\\", "/")
            known = clean(f"{plain}/x").rpartition("/")[0] if plain else ""
        except (orjson.JSONDecodeError, RowError):
            return {}, b""
        table = None if known != plain or _is_odd(plain) else index.table(known)
        if not table:
            return {}, b""
        shown = index.path(next(iter(table.values()))).rpartition("/")[0]
        # The folder of the data set may be written in several forms of Unicode.
        if not shown.isascii():
            return {}, b""
        return table, orjson.dumps(f"{shown}/" if shown else "")[1:-1]

    def learn(self, line: bytes, number: int, built: ConvertedRow) -> None:
        """Derive a template from a line and the record that the general path made of it."""
        if not self.usable or len(self.known) >= MAX_TEMPLATES or len(built.members) != 1:
            return
        if built.split != self.worker.source.split or built.dropped:
            return
        if any(line.startswith(template.head) for template in self.known):
            return
        front = self._id + b"%d" % number
        template = derive(line, built, front, self._sft)
        if template is None:
            return
        before, self.current = self.current, template
        again = FastPathRows()
        self.convert(Lines(line, [len(line)], True, line.isascii()), 0, number, again)
        same = FastPathRows(again.pieces, [built.characters], built.members, [built.count[-1]])
        if b"".join(again.pieces) == built.line and again == same:
            self.known.append(template)
        else:
            self.current = before


def _is_odd(path: str) -> bool:
    """Whether a path looks otherwise in JSON, or the general path reads it in a way of its own."""
    if not path.isascii() or not path.isprintable() or path != path.strip():
        return True
    return any(odd in path for odd in _ODD)
