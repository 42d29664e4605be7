"""Names: which files are archives, which parts belong together, which member names are safe.

Data comes packed on somebody else's machine, so names are wrong in known ways: an archive that is
literally called ``C:\\Users\\me\\video.zip``, members with back slashes, names in the legacy
encoding of another country. What is odd is read; what would write outside its folder is refused.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from omnistage.errors import InputError

_SUFFIX = r"\.(?:tar|tar\.gz|tgz|tar\.zst|tzst|tar\.bz2|tbz2?|tar\.xz|txz|zip)"
_WHOLE = re.compile(rf"(?P<stem>.+?){_SUFFIX}", re.IGNORECASE)
_PART = re.compile(
    rf"(?P<whole>.+?{_SUFFIX})[._-]?(?P<word>part[._-]?)?(?P<part>\d{{1,6}}|[a-z]{{2,4}})",
    re.IGNORECASE,
)
_SPANNED = re.compile(r"(?P<stem>.+)\.z(?P<part>\d{2,4})", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")
_LONGEST_NAME = 255  # bytes in a component, the limit of Linux file systems
_LONGEST_PATH = 4000  # bytes; Linux allows 4,096 with the folder in front


@dataclass(frozen=True)
class Archive:
    """One archive, whole or in parts."""

    name: str
    """The file that stands for it in the index: itself, or the first part, or the ``.zip``."""
    parts: tuple[str, ...]
    """Its files in the order in which their bytes follow each other."""

    @property
    def whole(self) -> str:
        """The name without the part number: ``clips.tar.gz`` for ``clips.tar.gz.aa``."""
        return self.name if len(self.parts) == 1 or is_archive(self.name) else _unsplit(self.name)


def group_archives(paths: Iterable[str]) -> list[Archive]:
    """Find the archives among files and put the parts of split ones together.

    Known are ``x.tar.gz.aa, .ab`` and ``x.tar.gz.part-aa`` (GNU split), ``x.zip.001, .002``,
    ``x.tar.part1, .part2``, and ``x.z01, x.z02, x.zip`` (spanned zip).

    Args:
        paths: Relative paths with ``/``.

    Raises:
        InputError: If a part is missing from the middle of a sequence.
    """
    paths = sorted(set(paths))
    spanned: dict[str, list[tuple[int, str]]] = defaultdict(list)
    split: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    wholes = []
    for path in paths:
        if is_archive(path):
            wholes.append(path)
        elif found := _SPANNED.fullmatch(path):
            spanned[found["stem"].lower()].append((int(found["part"]), path))
        elif found := _PART.fullmatch(path):
            style = f"{found['word']}{len(found['part']) if found['part'].isalpha() else 'number'}"
            split[found["whole"], style].append((_order(found["part"]), path))
    archives = []
    for path in wholes:
        stem, _, suffix = path.rpartition(".")
        parts = spanned.pop(stem.lower(), []) if suffix.lower() == "zip" else []
        if parts:
            _check_sequence(parts, 1)
        archives.append(Archive(path, (*(name for _, name in sorted(parts)), path)))
    for (_, style), parts in split.items():
        first = min(number for number, _ in parts)
        if first > 1 and not style.endswith("number"):
            continue  # letters that do not begin at "aa": x.zip.sig is no part of anything
        _check_sequence(parts, min(first, 1))
        names = tuple(name for _, name in sorted(parts))
        archives.append(Archive(names[0], names))
    for parts in spanned.values():
        raise InputError(f"{min(parts)[1]}: part of a spanned zip whose .zip file is missing")
    return sorted(archives, key=lambda a: a.name)


def archive_folders(archives: Sequence[Archive]) -> dict[str, str]:
    """Return the folder below the media root that each archive's members go to.

    It is the archive's base name without its suffix; archives with the same base name in different
    folders keep their folders, so that two shards called ``images.tar`` do not meet.

    Returns:
        Archive name to folder.
    """
    stems = {a.name: _stem(a.whole) for a in archives}
    bases = Counter(stem.rpartition("/")[2] for stem in stems.values())
    folders = {}
    for name, stem in stems.items():
        base = stem.rpartition("/")[2]
        folders[name] = base if bases[base] == 1 else stem
    return folders


def place_members(folder: str, names: Sequence[str]) -> list[str]:
    """Return where below the media root the members of an archive go.

    A member whose name begins with the folder already is not put in it twice, unless two members
    would then fall on the same path.
    """
    prefix = folder + "/"
    placed = [name if name.startswith(prefix) else prefix + name for name in names]
    return placed if len(set(placed)) == len(placed) else [prefix + name for name in names]


def safe_member(name: str) -> str:
    """Return a member's name with ``/`` between its components, if it is safe to extract.

    Raises:
        ValueError: With the reason: absolute, with a drive letter, climbing with ``..``, empty,
            with control characters, or too long for a file system.
    """
    name = name.replace("\\", "/")
    if _DRIVE.match(name):
        raise ValueError("its name begins with a drive letter")
    if name.startswith("/"):
        raise ValueError("its name is an absolute path")
    return _safe(name)


def safe_path(name: str) -> str:
    """Return a source's file name if it is safe to write below a folder.

    Unlike a member's, such a name may hold back slashes and a drive letter: they are plain
    characters here, and some data sets have such files.

    Raises:
        ValueError: With the reason.
    """
    if name.startswith("/"):
        raise ValueError("its name is an absolute path")
    return _safe(name)


def decode_names(raws: Sequence[bytes], encoding: str | None) -> list[str]:
    """Decode member names whose archive does not say their encoding.

    Args:
        raws: The names of one archive, as bytes.
        encoding: The encoding, or None to guess: UTF-8; GBK where every byte pair lies in the
            GB 2312 plane; Shift-JIS where that gives kana; else code page 437, zip's own.

    Raises:
        ValueError: If a name does not fit the encoding given.
    """
    if encoding is None:
        encoding = _guess(raws)
    return [raw.decode(encoding) for raw in raws]


def _guess(raws: Sequence[bytes]) -> str:
    foreign = [raw for raw in raws if not raw.isascii()]
    if _fits(foreign, "utf-8"):
        return "utf-8"
    if _fits(foreign, "gb2312"):
        return "gbk"
    kana = re.compile("[\u3041-\u30fa]")
    if _fits(foreign, "shift_jis") and any(kana.search(r.decode("shift_jis")) for r in foreign):
        return "shift_jis"
    return "cp437"


def _fits(raws: Sequence[bytes], encoding: str) -> bool:
    try:
        for raw in raws:
            raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _safe(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts:
        raise ValueError("its name is empty")
    if ".." in parts:
        raise ValueError("its name climbs out of the folder with '..'")
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise ValueError("its name holds control characters")
    safe = "/".join(parts)
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError as e:
        raise ValueError("its name is not valid text") from e
    if longest > _LONGEST_NAME or len(safe.encode()) > _LONGEST_PATH:
        raise ValueError("its name is too long for a file system")
    return safe


def is_archive(path: str) -> bool:
    """Whether a file is an archive in one piece, by its name."""
    return _WHOLE.fullmatch(path) is not None


def _unsplit(path: str) -> str:
    found = _PART.fullmatch(path)
    return found["whole"] if found else path


def _stem(path: str) -> str:
    found = _WHOLE.fullmatch(path.replace("\\", "/"))
    stem = found["stem"] if found else path
    return stem.partition(":")[2].lstrip("/") if _DRIVE.match(stem) else stem


def _order(part: str) -> int:
    """Return a part's place: its number, or for letters aa = 0, ab = 1, …."""
    if part.isdigit():
        return int(part)
    order = 0
    for letter in part.lower():
        order = order * 26 + ord(letter) - ord("a")
    return order


def _check_sequence(parts: list[tuple[int, str]], first: int) -> None:
    for expected, (number, name) in enumerate(sorted(parts), first):
        if number != expected:
            raise InputError(
                f"{name}: a part of this split archive is missing (part {expected} was expected "
                "before it); fetch all parts, or exclude them"
            )
