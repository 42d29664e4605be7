"""Hash an artifact's files, and compare files with their manifest."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from omnistage.errors import DamagedError
from omnistage.files import sha256_file
from omnistage.store.manifest import FileEntry, list_files


def hash_files(folder: Path) -> list[FileEntry]:
    """Return size and sha256 of every file below a folder, hashed on two threads."""

    def entry(path: Path) -> FileEntry:
        name = path.relative_to(folder).as_posix()
        return FileEntry(path=name, size=path.stat().st_size, sha256=sha256_file(path))

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(entry, list_files(folder)))


def check_files(folder: Path, files: list[FileEntry], where: str) -> None:
    """Compare files with their manifest entries: presence, size, sha256.

    Raises:
        DamagedError: Naming the first file that differs and how.
    """

    def check(entry: FileEntry) -> str | None:
        path = folder / entry.path
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return f"{path}: missing"
        if size != entry.size:
            return f"{path}: {size} bytes, the manifest says {entry.size}"
        if sha256_file(path) != entry.sha256:
            return f"{path}: its bytes changed (sha256 differs from the manifest)"
        return None

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for problem in pool.map(check, files):
            if problem:
                raise DamagedError(f"{where} is damaged: {problem}")
