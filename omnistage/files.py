"""Small file helpers: hashing, atomic writes, JSON and JSON Lines."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from omnistage.errors import InputError, machine_errors


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def is_there(path: Path) -> bool:
    """Whether there is anything by this name, a dangling link too.

    Unlike ``os.path.lexists`` it takes no fault of the file system for a file that is missing.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def walk(folder: Path) -> Iterator[Path]:
    """Yield all that is below a folder, in no order; links are not followed.

    Unlike ``Path.rglob`` it passes over no folder that cannot be read.

    Raises:
        OSError: If one cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    for root, folders, files in os.walk(folder, onerror=fail):
        for name in (*folders, *files):
            yield Path(root, name)


def check_readable(paths: Iterable[str | Path]) -> None:
    """Read files that something else could not make sense of, to know whose fault it is.

    Raises:
        TransientError: If a file system does not give the bytes for now.
        InputError: If they may not be read.
    """
    for path in paths:
        with machine_errors(f"reading {path}"), contextlib.suppress(FileNotFoundError):
            sha256_file(Path(path))


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    The bytes go to a temporary file in the same folder, are synced and renamed over ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: If the file is missing or not JSON; the message names it.
    """
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError as e:
        raise InputError(f"{path}: no such file") from e
    except orjson.JSONDecodeError as e:
        raise InputError(f"{path}: not valid JSON: {e}") from e


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file; blank lines are passed over.

    Raises:
        InputError: If a line is not a JSON object; the message names file and line.
    """
    with path.open("rb") as f:
        for number, line in enumerate(f, 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as e:
                raise InputError(f"{path}:{number}: not valid JSON: {e}") from e
            if not isinstance(row, dict):
                raise InputError(f"{path}:{number}: expected a JSON object")
            yield row


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write objects as JSON Lines and return how many; not atomic, for work folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("wb") as f:
        for row in rows:
            f.write(orjson.dumps(row) + b"\n")
            count += 1
    return count


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomic(path, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def free_bytes(path: Path) -> int:
    """Return the free bytes of the file system that holds ``path`` or its nearest parent."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def boot_id() -> str:
    """Return what tells this boot of the machine from others; empty where nothing does.

    Bytes written in another boot may have a size on the disk and not their content. From
    ``/proc`` because psutil's boot time moves with the clock.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def count_lines(path: Path) -> int:
    """Return how many lines a file has; one that is not ended does not count."""
    with path.open("rb") as f:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: f.read(1 << 20), b""))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number of things in words: ``1 record``, ``4,041 records``, ``2 tries``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def printable(text: str) -> str:
    """Return a text with what would steer a terminal as escapes; line ends and tabs stay."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda m: ascii(m[0])[1:-1], text)


def one_line(text: str, longest: int = 60) -> str:
    """Return a text out of data as a terminal can show it: escaped if not printable, and cut.

    Example:
        >>> one_line("a\\nb"), one_line("x" * 500, 5)
        ('a\\\\nb', 'xxxxx…')
    """
    cut = text if len(text) <= longest else text[:longest] + "…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def human_bytes(count: float) -> str:
    """Return a size for people: ``1.2 GB`` (powers of 1,000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def private_folder(path: Path) -> Path:
    """Return a folder that only this user can enter, made when missing.

    Raises:
        InputError: If it is a link or belongs to somebody else, who could have put anything there.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise InputError(
            f"{path}: is a link or belongs to another user; remove it, or set OMNISTAGE_SCRATCH to "
            "a folder of your own"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path


def sync(path: Path) -> None:
    """Flush a file or a folder entry to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, what: str = "") -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel drops it when the process dies.

    Args:
        path: The lock file, made when missing.
        what: Printed when the lock is held by somebody else.

    Raises:
        InputError: If the lock file cannot be written.
    """
    with machine_errors(f"locking {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        f = path.open("a+")
    with f:
        with machine_errors(f"locking {path}"):
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if what:
                    print(f"{what}: another run is at work on it; waiting for it", flush=True)
                fcntl.flock(f, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):  # the holder's name is for people; the disk may be full
            f.truncate(0)
            f.write(f"{socket.gethostname()} {os.getpid()}\n")
            f.flush()
        yield
