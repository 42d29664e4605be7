"""Which files a folder source means, and a fingerprint of their state."""

import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from omnistage.errors import InputError


def folder_files(folder: str, patterns: Sequence[str]) -> list[tuple[str, os.stat_result]]:
    """Return relative path and state of each matching file, sorted.

    A link to another place within the folder is followed; none leads out of it.

    Raises:
        InputError: If the folder is not there, no file matches, or a link leads out of the folder,
            to nothing or back to a folder that it is in.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(f"folder source {folder}: no such folder")
    found = [
        (relative, state)
        for relative, state in _files(root.resolve(), root.resolve(), "", ())
        if any(fnmatch.fnmatchcase(relative, p) for p in patterns)
    ]
    if not found:
        raise InputError(f"folder source {folder}: no file matches {list(patterns)}")
    return sorted(found, key=lambda f: f[0])


def _files(
    root: Path, folder: Path, prefix: str, above: tuple[Path, ...]
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files below a folder.

    Args:
        root: Of the source.
        folder: Without links in its path.
        prefix: The folder's path as the source has it, with a slash at its end.
        above: The folders on the way to it, without links.
    """
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            relative, path = prefix + entry.name, Path(entry.path)
            if entry.is_symlink():
                path = _followed(root, path, relative, (*above, folder))
            state = path.stat()
            if stat.S_ISDIR(state.st_mode):
                yield from _files(root, path, relative + "/", (*above, folder))
            elif stat.S_ISREG(state.st_mode):
                yield relative, state
            else:
                raise InputError(f"folder source {root}: {relative!r} is neither file nor folder")


def _followed(root: Path, link: Path, relative: str, above: tuple[Path, ...]) -> Path:
    """Return where a link leads."""
    where = f"folder source {root}: link {relative!r}"
    try:
        target = link.resolve(strict=True)
    except FileNotFoundError as e:
        raise InputError(f"{where} leads to nothing ({link.readlink()}); remove it") from e
    except (OSError, RuntimeError) as e:
        raise InputError(f"{where} leads back to itself; remove it") from e
    if target in above:
        raise InputError(f"{where} leads back to a folder that it is in; remove it")
    if not target.is_relative_to(root):
        raise InputError(
            f"{where} leads out of the folder, to {target}; name that as a source, or copy what it "
            "leads to (cp -rL)"
        )
    return target


def folder_fingerprint(folder: str, patterns: Sequence[str]) -> str:
    """Return the sha256 over path, size and modification time (ns) of the matching files.

    Cheap enough for 100 GB, and different whenever a file was changed in the ordinary way.
    """
    lines = [f"{p}\0{s.st_size}\0{s.st_mtime_ns}\n" for p, s in folder_files(folder, patterns)]
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
