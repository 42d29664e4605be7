"""Which files a folder source means, and a fingerprint of their state."""

import fnmatch
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from omnistage.errors import InputError


def folder_files(folder: str, patterns: Sequence[str]) -> list[tuple[str, os.stat_result]]:
    """Return relative path and state of each matching file, sorted; links are followed.

    Raises:
        InputError: If the folder is not there, or no file matches.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(f"folder source {folder}: no such folder")
    found = []
    for where, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        for name in names:
            path = Path(where, name)
            relative = path.relative_to(root).as_posix()
            if any(fnmatch.fnmatchcase(relative, p) for p in patterns):
                found.append((relative, path.stat()))
    if not found:
        raise InputError(f"folder source {folder}: no file matches {list(patterns)}")
    return sorted(found, key=lambda f: f[0])


def folder_fingerprint(folder: str, patterns: Sequence[str]) -> str:
    """Return the sha256 over path, size and modification time (ns) of the matching files.

    Cheap enough for 100 GB, and different whenever a file was changed in the ordinary way.
    """
    lines = [f"{p}\0{s.st_size}\0{s.st_mtime_ns}\n" for p, s in folder_files(folder, patterns)]
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
