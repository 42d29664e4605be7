"""What a benchmark is: where its files come from, and how a row of them becomes an item."""

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_OPTION = re.compile(r"\(?([A-Z])[).:]\s*(.+)", re.DOTALL)
_MIME = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "wav", b"fLaC": "flac", b"ID3": "mp3"}


class LayoutError(ValueError):
    """A row is not in the benchmark's layout; the message names the field."""


@dataclass(frozen=True)
class Medium:
    """A medium of an item.

    Attributes:
        kind: ``images``, ``audios`` or ``videos``.
        name: Path in the folder that is written, with ``/``.
        path: The file; None where the row holds the bytes.
        data: The bytes.
    """

    kind: str
    name: str
    path: Path | None = None
    data: bytes = b""


@dataclass(frozen=True)
class Item:
    """One question of a benchmark, before a protocol makes a prompt of it.

    Attributes:
        id: Unique in the benchmark.
        task: Task that grades it, as in a record.
        question: The question; of a pair, what both answers answer.
        gold: The right answer: a letter, number, label, text or box; of a pair ``A``, ``B`` or
            ``equal``.
        media: What is shown, in order.
        options: Texts of the choices, without letters.
        pair: The two answers to judge.
        group: What the benchmark averages over, or reports by.
    """

    id: str
    task: str
    question: str
    gold: str
    media: Sequence[Medium] = ()
    options: Sequence[str] = ()
    pair: tuple[str, str] | None = None
    group: str = ""


class Folder:
    """The folder that a benchmark was fetched to."""

    def __init__(self, root: Path) -> None:
        """Make one."""
        self.root = root

    @cached_property
    def _by_name(self) -> dict[str, Path]:
        return {p.name: p for p in sorted(self.root.rglob("*"), reverse=True) if p.is_file()}

    def medium(self, kind: str, value: Any, name: str) -> Medium:
        """Return a medium of a row.

        Args:
            kind: ``images``, ``audios`` or ``videos``.
            value: Its path, or what a table holds: bytes, base64 text, or ``{"bytes", "path"}``.
            name: What bytes are called, without a suffix.

        Raises:
            LayoutError: If it is none of these.
        """
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str) and len(value) > 512:
            try:
                value = base64.b64decode(value, validate=True)
            except binascii.Error as e:
                raise LayoutError(f"{kind}: neither a path nor base64: {value[:40]!r}") from e
        if isinstance(value, bytes):
            suffix = next((s for head, s in _MIME.items() if value.startswith(head)), "bin")
            return Medium(kind, f"{kind}/{name}.{suffix}", data=value)
        if not isinstance(value, str) or not value:
            raise LayoutError(f"{kind}: neither a path nor bytes: {value!r:.40}")
        path = self.find(value)
        return Medium(kind, path.relative_to(self.root).as_posix(), path)

    def find(self, name: str) -> Path:
        """Return the file of a path in a row: below the folder, or the one of its base name.

        A file that is not there is returned as it would lie in the folder.
        """
        there = self.root / name.lstrip("/")
        if there.is_file() and there.resolve().is_relative_to(self.root.resolve()):
            return there
        base = Path(name).name
        return self._by_name.get(base, self.root / base)


@dataclass(frozen=True)
class Fetch:
    """Files that a user must fetch.

    Attributes:
        files: Their names.
        source: Where they are published.
        terms: The licence, or what has to be agreed to.
    """

    files: str
    source: str
    terms: str


@dataclass(frozen=True)
class Benchmark:
    """A benchmark.

    Attributes:
        name: As the command line calls it.
        title: As its makers write it.
        files: Patterns of the files with rows; the first that matches counts. Empty where the
            media's own names say everything.
        read: Items of a row.
        fetch: What a user must fetch.
        protocols: Protocols that it is published under, the usual one first.
        verified: Whether the layout was read in its loader's code; else ``columns`` map it.
    """

    name: str
    title: str
    files: Sequence[str]
    read: Callable[[Row, Folder], Iterator[Item]]
    fetch: Sequence[Fetch]
    protocols: Sequence[str] = ("omnistage",)
    verified: bool = True


def plain_options(options: Any) -> list[str]:
    """Return the texts of choices, which may stand with letters (``A. a cat``).

    Raises:
        LayoutError: If it is no list of at least two.
    """
    if not isinstance(options, list | tuple) or len(options) < 2:
        raise LayoutError(f"a list of choices is needed, not {options!r:.40}")
    texts = [str(option).strip() for option in options]
    found = [_OPTION.fullmatch(text) for text in texts]
    if all(m and m[1] == letter for m, letter in zip(found, LETTERS, strict=False)):
        return [m[2].strip() for m in found if m]
    return texts


def letter_of(answer: Any, options: Sequence[str]) -> str:
    """Return the letter of a gold answer that is a letter or the text of a choice.

    Raises:
        LayoutError: If it is neither.
    """
    text = str(answer).strip()
    if text in options:
        return LETTERS[options.index(text)]
    match = _OPTION.fullmatch(text)
    letter = match[1] if match else text.strip("().")
    if len(letter) == 1 and letter.upper() in LETTERS[: len(options)]:
        return letter.upper()
    raise LayoutError(f"the answer {text!r:.60} is none of the choices")


def text_of(row: Row, *names: str) -> str:
    """Return the first of several fields that the row has, as text.

    Raises:
        LayoutError: If it has none of them.
    """
    for name in names:
        if row.get(name) not in (None, ""):
            return str(row[name])
    raise LayoutError(f"no field {' or '.join(names)}")
