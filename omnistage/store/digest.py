"""Hash an artifact's files, and compare files with their manifest."""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from omnistage.errors import DamagedError, InputError
from omnistage.files import boot_id, sha256_file, walk
from omnistage.store.manifest import FileEntry, Manifest, list_files, path_problem

Progress = Callable[[int, int], None]


class Count:
    """Adds up bytes from several threads and reports them.

    Args:
        progress: Told the bytes so far, and those in all.
        total: Bytes in all.
    """

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._lock = threading.Lock()

    def __call__(self, more: int) -> None:
        """Add bytes."""
        with self._lock:
            self._done += more
            if self._progress:
                self._progress(self._done, self._total)


def hash_files(folder: Path, progress: Progress | None = None) -> list[FileEntry]:
    """Return size and sha256 of every file below a folder, hashed on several threads.

    Raises:
        InputError: If something there is not a plain file, or has a name that is not portable.
    """
    paths = list_files(folder)
    for path in paths:
        if problem := path_problem(path.relative_to(folder).as_posix()):
            raise InputError(f"{path}: cannot be stored: {problem}")
    count = Count(progress, sum(path.stat().st_size for path in paths))

    def entry(path: Path) -> FileEntry:
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        made = FileEntry(path=name, size=size, sha256=sha256_file(path))
        count(size)
        return made

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(entry, paths))


def file_problem(path: Path, entry: FileEntry) -> str | None:
    """Return how a file differs from its manifest entry, or None when it does not."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    if not stat.S_ISREG(found.st_mode):
        return "not a plain file"
    if found.st_size != entry.size:
        return f"{found.st_size} bytes, the manifest says {entry.size}"
    if sha256_file(path) != entry.sha256:
        return "its bytes changed (sha256 differs from the manifest)"
    return None


def unlisted(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yield what is below a folder and not in the manifest, and every link."""
    listed = {entry.path for entry in manifest.files}
    for path in sorted(walk(folder)):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield f"{name}: a link"
        elif not path.is_dir() and name not in listed:
            yield f"{name}: not in the manifest"


def check_files(folder: Path, manifest: Manifest, where: str) -> None:
    """Compare a folder with a manifest: no file missing, none too many, sizes and sha256.

    Raises:
        DamagedError: Naming the first file that differs and how.
    """
    if folder.is_symlink():
        raise DamagedError(f"{where} is damaged: {folder}: a link")
    for problem in unlisted(folder, manifest):
        raise DamagedError(f"{where} is damaged: {folder}/{problem}")

    def check(entry: FileEntry) -> str | None:
        problem = file_problem(folder / entry.path, entry)
        return f"{folder / entry.path}: {problem}" if problem else None

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for problem in pool.map(check, manifest.files):
            if problem:
                raise DamagedError(f"{where} is damaged: {problem}")


def seal(folder: Path) -> str:
    """Return a hash over names, sizes, inodes and times of change of all that is below a folder.

    Taken when the bytes were verified, it tells later, without reading them, that nothing was
    added, removed, written to or replaced: the kernel sets the time of change (``ctime``) at every
    write, and no program can set it back. It holds for one boot of the machine, since bytes may not
    have reached the disk when the machine went down.
    """
    state = hashlib.sha256(boot_id().encode())
    for path in sorted(walk(folder)):
        found = path.lstat()
        times = () if stat.S_ISDIR(found.st_mode) else (found.st_ino, found.st_ctime_ns)
        name = path.relative_to(folder).as_posix()
        state.update(repr((name, found.st_mode, found.st_size * bool(times), *times)).encode())
    return state.hexdigest()
