"""Finds the file that a record means: the one whose path ends like the record's.

The index of a data set's members is held compactly: a dictionary of names for each folder and a few
arrays, about 150 bytes a member.
"""

import re
import unicodedata
from array import array
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson

from components.rewrite_paths.draft import RowError
from components.rewrite_paths.formats.turns import INLINE
from omnistage.archives.media_names import media_kind
from omnistage.errors import InputError

IMAGE, AUDIO, VIDEO, SOUND_CLIP, NO_MEDIUM, BROKEN = range(6)
"""Kinds of members; ``SOUND_CLIP`` is a video with a sound track."""
_KINDS = {"image": IMAGE, "audio": AUDIO, "video": VIDEO}
FITS = {
    "images": frozenset({IMAGE}),
    "audios": frozenset({AUDIO, SOUND_CLIP}),
    "videos": frozenset({VIDEO, SOUND_CLIP}),
}
_NAMES = {
    IMAGE: "an image",
    AUDIO: "a sound",
    VIDEO: "a clip without sound",
    SOUND_CLIP: "a clip with sound",
    NO_MEDIUM: "not a medium",
}
# How PNG, JPEG, GIF, WEBP or WAV, MP3, OGG and FLAC begin in base64, or any long text of it.
_BASE64 = re.compile(
    r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR|SUQz|T2dnUw|ZkxhQ)[A-Za-z0-9+/=]*\Z|[A-Za-z0-9+/=\s]{256}"
)
# What the reader of tables makes of bytes.
_BYTES = re.compile(r"\([\d.]+ [kMGT]?B\)")
_AMBIGUOUS = -1
_CACHED_FOLDERS = 4096
_BLOCK = 64  # lines of an index at a time: few enough for the fastest cache


class MemberIndex:
    """The members of a data set, by path.

    Args:
        entries: Lines of ``index.jsonl``: ``path``, ``sha256`` and ``media`` are read.
    """

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        self.kinds = bytearray()
        self.seconds = array("f")
        """Duration of each member, below 0 where it has none or it is not known."""
        self.errors: dict[int, str] = {}
        """Why a member cannot be shown to a model."""
        self.stretched: set[int] = set()
        """Clips whose pixels are not square, which players stretch and decoders do not."""
        self.first_duplicate = array("I")
        """First member with the same bytes, of each member."""
        self._names: list[str] = []
        self._folder_of = array("I")
        self._folders: list[str] = []
        self._tables: dict[str, dict[str, int]] = {}  # folder -> name -> member
        self._add_all(entries)
        self._endings = self._folder_endings()
        self._by_name: dict[str, list[int]] | None = None
        self._by_folded: dict[str, int] | None = None
        self._cache: dict[str, tuple[str, dict[str, int]] | None] = {}

    @classmethod
    def load(cls, path: Path) -> "MemberIndex":
        """Read an ``index.jsonl``.

        Raises:
            InputError: If the file is missing or broken.
        """
        try:
            with path.open("rb") as f:
                return cls(map(orjson.loads, f))
        except FileNotFoundError as e:
            raise InputError(f"{path}: no such file; the data set has no index of its media") from e
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as e:
            raise InputError(f"{path}: not an index of media: {type(e).__name__}: {e}") from e

    def __len__(self) -> int:
        return len(self._names)

    def path(self, member: int) -> str:
        """Return a member's path relative to the media root."""
        folder = self._folders[self._folder_of[member]]
        return f"{folder}/{self._names[member]}" if folder else self._names[member]

    def at(self, path: str) -> int:
        """Return the member at a path of this index, as :meth:`path` gives it."""
        folder, _, name = path.rpartition("/")
        return self._tables[_normal(folder)][_normal(name)]

    def folder_number(self, member: int) -> int:
        """Return the number of the folder that a member is in."""
        return self._folder_of[member]

    def name(self, member: int) -> str:
        """Return the last component of a member's path."""
        return self._names[member]

    def find(self, raw: str) -> int:
        """Return the member that a path of any machine means.

        Both ``/`` and ``\\`` separate components; ``file://`` is taken off. Of the members with the
        same name the one with the longest common ending is meant; members with the same bytes
        count as one.

        Raises:
            RowError: ``missing_file`` or ``ambiguous_file``.
        """
        folder, _, name = clean(raw).rpartition("/")
        near = self._nearest(folder)
        member = near.get(name) if near else None
        return self._search(raw, folder, name) if member is None else member

    def table(self, folder: str) -> dict[str, int] | None:
        """Return the names in the folder that ends most like this one, if there is just one."""
        return self._nearest(folder)

    def require(self, raw: str, field: str) -> int:
        """Return the member that a path of a media list means, if it is fit for that list.

        Raises:
            RowError: Also ``undecodable_media`` and ``wrong_media_type``.
        """
        member = self.find(raw)
        kind = self.kinds[member]
        if kind == BROKEN:
            raise RowError(
                "undecodable_media",
                f"{self.path(member)} cannot be decoded: {self.errors[member]}",
            )
        if kind not in FITS[field]:
            raise RowError("wrong_media_type", f"{field}: {self.path(member)} is {_NAMES[kind]}")
        return member

    def _add_all(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Add members, some at a time: by column it takes less time."""
        first_with: dict[str, int] = {}  # digest -> member
        numbers: dict[str, int] = {}  # folder -> place in the list of folders
        entries = iter(entries)
        while block := list(islice(entries, _BLOCK)):
            start = len(self._names)
            members = range(start, start + len(block))
            paths = [entry["path"].rpartition("/") for entry in block]
            media = [entry["media"] for entry in block]
            digests = [entry["sha256"] for entry in block]
            self._names.extend([name for _, _, name in paths])
            self.first_duplicate.extend(map(first_with.setdefault, digests, members))
            self.kinds.extend(map(_kind, media))
            self.seconds.extend(map(_seconds, media))
            self.errors.update(
                (n, m["error"]) for n, m in zip(members, media, strict=True) if m and "error" in m
            )
            self.stretched.update(
                n for n, m in zip(members, media, strict=True) if m and "pixel_aspect" in m
            )
            at = 0
            while at < len(block):
                folder, end = paths[at][0], at + 1
                while end < len(block) and paths[end][0] == folder:
                    end += 1
                self._add_names(folder, members[at:end], numbers)
                at = end

    def _add_names(self, folder: str, members: range, numbers: dict[str, int]) -> None:
        """Enter members that follow one another in one folder."""
        number = numbers.setdefault(folder, len(numbers))
        if number == len(self._folders):
            self._folders.append(folder)
        self._folder_of.extend(array("I", [number]) * len(members))
        table = self._tables.setdefault(_normal(folder), {})
        names = self._names[members.start : members.stop]
        if not "".join(names).isascii():
            names = [_normal(name) for name in names]
        new = dict(zip(names, members, strict=True))
        if len(new) == len(members) and table.keys().isdisjoint(new):
            table.update(new)
            return
        for name, member in zip(names, members, strict=True):
            known = table.setdefault(name, member)
            if known >= 0 and self.first_duplicate[known] != self.first_duplicate[member]:
                table[name] = _AMBIGUOUS

    def _folder_endings(self) -> dict[str, str | None]:
        """Map each ending of a folder's path to that folder, or to None if several end so."""
        endings: dict[str, str | None] = {}
        for folder in self._tables:
            parts = folder.split("/")
            for start in range(len(parts)):
                ending = "/".join(parts[start:])
                endings[ending] = folder if ending not in endings else None
        return endings

    def _nearest(self, folder: str) -> dict[str, int] | None:
        if folder in self._cache:
            found = self._cache[folder]
            return found[1] if found else None
        if len(self._cache) >= _CACHED_FOLDERS:
            self._cache.clear()
        best = folder if folder in self._tables else self._longest_ending(folder)
        table = self._tables[best] if best is not None else None
        if table is not None and _AMBIGUOUS in table.values():
            table = {name: member for name, member in table.items() if member != _AMBIGUOUS}
        self._cache[folder] = (folder, table) if table is not None else None
        return table

    def _longest_ending(self, folder: str) -> str | None:
        parts = folder.split("/")
        for start in range(len(parts)):
            ending = "/".join(parts[start:])
            if ending in self._endings:
                return self._endings[ending]
        return None

    def _other_case(self, name: str) -> str:
        """Return a hint at a file whose name differs in case, or nothing."""
        if self._by_folded is None:
            self._by_folded = {
                _normal(known).casefold(): member for member, known in enumerate(self._names)
            }
        member = self._by_folded.get(name.casefold())
        if member is None or not name:
            return ""
        return f"; {self.path(member)} differs from it in upper and lower case alone"

    def _search(self, raw: str, folder: str, name: str) -> int:
        if self._by_name is None:
            self._by_name = {}
            for member, known in enumerate(self._names):
                self._by_name.setdefault(_normal(known), []).append(member)
        candidates = self._by_name.get(name)
        if not name or not candidates:
            raise RowError("missing_file", _not_found(raw, name) + self._other_case(name))
        whole = f"{folder}/{name}" if folder else name
        common = {c: _common_ending(whole, _normal(self.path(c))) for c in candidates}
        most = max(common.values())
        best = [c for c in candidates if common[c] == most]
        exact = [c for c in best if _normal(self.path(c)) == whole]
        best = exact or best
        if len({self.first_duplicate[c] for c in best}) > 1:
            shown = ", ".join(self.path(c) for c in best[:3])
            more = f" and {len(best) - 3} more" if len(best) > 3 else ""
            raise RowError("ambiguous_file", f"{raw[:200]!r} may be {shown}{more}")
        return best[0]


def _not_found(raw: str, name: str) -> str:
    """Return why no file is named like a path."""
    if _BASE64.match(raw) or _BYTES.fullmatch(raw):
        return INLINE
    if media_kind(name) is None:
        _, dot, extension = name.rpartition(".")
        if not dot:
            return f"{raw[:200]!r} has no extension that tells what medium it is"
        return (
            f"{raw[:200]!r}: no medium that is read ends in .{extension[:20]}; convert it to a "
            "usual format, such as PNG, WAV or MP4"
        )
    return f"no file of the data set is named like {raw[:200]!r}"


def clean(raw: str) -> str:
    """Return a path with ``/`` only, without ``file://``, empty and ``.`` components.

    Raises:
        RowError: ``missing_file`` for a URL of another scheme and for bytes.
    """
    path = raw.strip()
    if "://" in path[:12] or path.startswith("data:"):
        if path.startswith("data:"):
            raise RowError("missing_file", INLINE)
        if path[:7].lower() != "file://":
            raise RowError(
                "missing_file",
                f"{raw[:80]!r} is an address on the web; make the file a part of the data set",
            )
        # A host, if there is one, is one more component before those that tell the file.
        path = unquote(path[7:])
    if "\\" in path:
        path = path.replace("\\", "/")
    if "//" in path or "./" in path:
        root = "/" if path.startswith("/") else ""
        path = root + "/".join(part for part in path.split("/") if part not in ("", "."))
    return _normal(path)


def _normal(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _common_ending(a: str, b: str) -> int:
    count = 0
    for x, y in zip(reversed(a.split("/")), reversed(b.split("/")), strict=False):
        if x != y:
            break
        count += 1
    return count


def _seconds(media: Mapping[str, Any] | None) -> float:
    seconds = media.get("duration") if media else None
    return -1.0 if seconds is None else seconds


def _kind(media: Mapping[str, Any] | None) -> int:
    if not media:
        return NO_MEDIUM
    kind = _KINDS.get(media.get("type", ""), NO_MEDIUM)
    if kind == VIDEO and media.get("has_audio"):
        return SOUND_CLIP
    return BROKEN if "error" in media else kind
