"""The store: where the bytes of artifacts live, under ``<stage>/<key>/``.

Layout of an artifact, in a folder as in a bucket::

    <stage>/<key>/content/…       the files
    <stage>/<key>/manifest.json   what they are, with size and sha256 each
    <stage>/<key>/done            written last; without it nothing is there

A reader trusts an artifact only after :meth:`FolderStore.find` has checked the marker, the
manifest, and the size and sha256 of every file.
"""

import fcntl
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from omnistage.artifacts import FileEntry, Kind, Manifest, content_digest, list_files
from omnistage.errors import DamagedError, InputError, machine_errors
from omnistage.files import sha256_file, write_atomic

MANIFEST = "manifest.json"
DONE = "done"
CONTENT = "content"
Progress = Callable[[int, int], None]


class Store(Protocol):
    """What a stage needs of a store; :class:`FolderStore` and :class:`omnistage.s3.S3Store`."""

    @property
    def uri(self) -> str:
        """``file://…`` or ``s3://…``, without a slash at the end."""
        ...

    @property
    def scratch(self) -> Path:
        """Node-local folder for what can be made again, such as extracted archives."""
        ...

    def find(self, stage: str, key: str) -> Manifest | None:
        """Return the verified artifact, or None when there is none.

        Raises:
            DamagedError: If something is there but is not whole; the message names the file.
        """
        ...

    def discard(self, stage: str, key: str) -> None:
        """Remove an artifact, whole or damaged."""
        ...

    def commit(self, folder: Path, kind: Kind, stage: str, key: str, **fields: Any) -> Manifest:
        """Make the files of ``folder`` the artifact of this stage and key."""
        ...

    def local(self, manifest: Manifest, progress: Progress | None = None) -> Path:
        """Return a local folder that holds the artifact's files, fetching them when need be.

        Args:
            manifest: Of the artifact.
            progress: Told the bytes fetched, and those in all.
        """
        ...

    def work_folder(self, stage: str, key: str) -> Path:
        """Return the folder, which survives a kill, where the artifact is being made."""
        ...

    def lock(self, stage: str, key: str) -> Any:
        """Context manager: one process at a time makes the artifact of a key."""
        ...

    def save_work(self, stage: str, key: str, name: str, source: Path) -> None:
        """Keep a file of a stage that is at work, by a relative name, until it is dropped."""
        ...

    def list_work(self, stage: str, key: str) -> list[str]:
        """Return the names that are kept."""
        ...

    def fetch_work(self, stage: str, key: str, name: str, target: Path) -> None:
        """Copy a kept file to ``target``."""
        ...

    def drop_work(self, stage: str, key: str, prefix: str = "") -> None:
        """Remove the kept files whose names begin with ``prefix``."""
        ...


def open_store(uri: str) -> Store:
    """Open a store by its URI.

    Args:
        uri: ``s3://bucket/prefix``, ``file:///folder`` or a plain folder.

    Raises:
        InputError: For any other scheme.
    """
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        from omnistage.s3 import S3Store

        return S3Store(uri)
    return FolderStore(uri_path(uri))


def uri_path(uri: str) -> Path:
    """Return the folder of a ``file://`` URI or of a plain path.

    Raises:
        InputError: For any other scheme.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme:
        raise InputError(f"store {uri!r}: expected a folder, file:// or s3://")
    return Path(uri)


def read_manifest(uri: str) -> Manifest:
    """Read a manifest by the URI of its file, from a folder or from S3.

    Raises:
        InputError: If there is none or it is not one.
    """
    if uri.startswith("s3://"):
        from omnistage.s3 import read_bytes

        return Manifest.from_json(read_bytes(uri), uri)
    path = uri_path(uri)
    if not path.is_file():
        raise InputError(f"{uri}: no such manifest")
    return Manifest.from_json(path.read_bytes(), uri)


def manifest_uri(manifest: Manifest) -> str:
    """Return the URI of the manifest file itself."""
    return f"{store_uri(manifest)}/{manifest.stage}/{manifest.key}/{MANIFEST}"


def store_uri(manifest: Manifest) -> str:
    """Return the URI of the store that holds an artifact."""
    return manifest.uri.rpartition(f"/{manifest.stage}/{manifest.key}/")[0]


def scratch_root(default: Path) -> Path:
    """Return ``OMNISTAGE_SCRATCH``, or ``default`` where it is not set."""
    return Path(os.environ.get("OMNISTAGE_SCRATCH") or default)


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


def record_manifest(
    uri: str, files: list[FileEntry], kind: Kind, stage: str, key: str, **fields: Any
) -> Manifest:
    """Make the manifest of hashed files, with their content digest."""
    return Manifest(
        kind=kind,
        stage=stage,
        key=key,
        digest=content_digest(files),
        uri=uri,
        files=files,
        **fields,
    )


@contextmanager
def locked(path: Path, what: str = "") -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel drops it when the process dies.

    Args:
        path: The lock file, made when missing.
        what: Said on stderr when the lock is held by somebody else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if what:
                print(f"{what}: another run is at work on it; waiting for it", flush=True)
            fcntl.flock(f, fcntl.LOCK_EX)
        f.truncate(0)
        f.write(f"{socket.gethostname()} {os.getpid()}\n")
        f.flush()
        yield


class FolderStore:
    """A store in a folder: a laptop's disk or a volume that all pods mount.

    Args:
        root: The folder; made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()

    @property
    def uri(self) -> str:
        """``file://`` and the absolute path."""
        return self.root.as_uri()

    @property
    def scratch(self) -> Path:
        """``OMNISTAGE_SCRATCH``, or a hidden folder inside the store."""
        return scratch_root(self.root / ".scratch")

    def find(self, stage: str, key: str) -> Manifest | None:
        """Return the artifact after checking every byte, or None when there is none.

        Raises:
            DamagedError: If it is there but not whole.
        """
        home = self.root / stage / key
        if not home.exists():
            return None
        if not (home / DONE).is_file():
            raise DamagedError(f"{home} is incomplete: its {DONE!r} marker is missing")
        try:
            manifest = Manifest.from_json((home / MANIFEST).read_bytes(), str(home / MANIFEST))
        except (InputError, FileNotFoundError) as e:
            raise DamagedError(f"{home} is damaged: {e}") from e
        here = (home / CONTENT).as_uri()
        if manifest.uri != here:  # the store was moved or is mounted elsewhere
            manifest = manifest.model_copy(update={"uri": here})
        if content_digest(manifest.files) != manifest.digest:
            raise DamagedError(f"{home / MANIFEST} is damaged: the digest is not that of its files")
        check_files(home / CONTENT, manifest.files, f"{stage} {key}")
        return manifest

    def discard(self, stage: str, key: str) -> None:
        """Remove an artifact; it is renamed first, so no reader sees a part of it."""
        home = self.root / stage / key
        gone = home.with_name(f".{key}.discarded.{os.getpid()}")
        if home.exists():
            home.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def commit(self, folder: Path, kind: Kind, stage: str, key: str, **fields: Any) -> Manifest:
        """Move the files of ``folder`` into the store under their final name.

        Raises:
            InputError: If the disk is full or cannot be written.
        """
        home = self.root / stage / key
        new = home.with_name(f".{key}.new")
        with machine_errors(f"writing {home}"):
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            files = hash_files(folder)
            manifest = record_manifest((home / CONTENT).as_uri(), files, kind, stage, key, **fields)
            write_atomic(new / MANIFEST, manifest.to_json())
            shutil.move(folder, new / CONTENT)  # copied when made on a node's own disk
            for entry in files:
                sync(new / CONTENT / entry.path)
            self.discard(stage, key)
            new.rename(home)
            sync(home.parent)
            write_atomic(home / DONE, manifest.digest + "\n")
        return manifest

    def local(self, manifest: Manifest, progress: Progress | None = None) -> Path:
        """Return the artifact's folder in the store itself."""
        folder = uri_path(manifest.uri)
        if not folder.is_dir():
            raise InputError(f"{manifest.kind} {manifest.key}: {folder} is not there")
        return folder

    def work_folder(self, stage: str, key: str) -> Path:
        """Return ``<stage>/.<key>.work``, made when missing."""
        folder = self.root / stage / f".{key}.work"
        with machine_errors("writing the store"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def lock(self, stage: str, key: str) -> Iterator[None]:
        """Hold the lock file ``<stage>/.<key>.lock``."""
        with machine_errors("writing the store"):
            (self.root / stage).mkdir(parents=True, exist_ok=True)
        with locked(self.root / stage / f".{key}.lock", f"{stage} {key}"):
            yield

    def save_work(self, stage: str, key: str, name: str, source: Path) -> None:
        """Copy the file to ``<stage>/.<key>.saved/<name>``; it appears there whole."""
        target = self._saved(stage, key) / name
        with machine_errors("writing the store"):
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.part")
            shutil.copyfile(source, part)
            sync(part)
            part.rename(target)

    def list_work(self, stage: str, key: str) -> list[str]:
        """Return the kept files, relative to their folder."""
        folder = self._saved(stage, key)
        found = (p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".part"))
        return [p.relative_to(folder).as_posix() for p in found]

    def fetch_work(self, stage: str, key: str, name: str, target: Path) -> None:
        """Copy a kept file."""
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._saved(stage, key) / name, target)

    def drop_work(self, stage: str, key: str, prefix: str = "") -> None:
        """Remove kept files."""
        folder = self._saved(stage, key)
        for name in self.list_work(stage, key) if prefix else ():
            if name.startswith(prefix):
                (folder / name).unlink(missing_ok=True)
        if not prefix:
            shutil.rmtree(folder, ignore_errors=True)

    def _saved(self, stage: str, key: str) -> Path:
        return self.root / stage / f".{key}.saved"


def sync(path: Path) -> None:
    """Flush a file or a folder entry to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
