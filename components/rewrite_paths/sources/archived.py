"""Record files that lie in an archive, such as VLM-R1's ``rec_jsons_processed.zip``."""

from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from omnistage.archives.names import is_archive
from omnistage.archives.reader import ArchiveLimits, read_members

_LIMITS = ArchiveLimits(max_members=5_000_000, max_bytes=1 << 40, max_ratio=1000)
"""The stage ``download`` has read it to its end within the recipe's own limits already."""


def split_pattern(pattern: str) -> tuple[str, str] | None:
    """Return the archive and the members of a pattern ``ARCHIVE.zip/MEMBERS``; None of another.

    Example:
        >>> split_pattern("lists/rec.zip/**/refcoco_*.json")
        ('lists/rec.zip', '**/refcoco_*.json')
        >>> split_pattern("lists/*.json")
    """
    parts = PurePosixPath(pattern).parts
    for number in range(1, len(parts)):
        if is_archive(parts[number - 1]):
            return "/".join(parts[:number]), "/".join(parts[number:])
    return None


def unpack(archive: Path, members: str, folder: Path) -> list[Path]:
    """Write the members of an archive that fit a pattern to a folder, and return their files.

    Args:
        archive: The archive.
        members: Shell pattern of members; ``*`` crosses folders.
        folder: Where they go, under their own names.

    Raises:
        InputError: If the archive is damaged.
    """
    found = []
    with archive.open("rb") as f:
        for member in read_members(f, archive.stat().st_size, archive.name, _LIMITS):
            if not any(fnmatchcase(member.name, p) for p in (members, members.removeprefix("**/"))):
                continue
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                for chunk in member.chunks():
                    out.write(chunk)
            found.append(path)
    return sorted(found)
