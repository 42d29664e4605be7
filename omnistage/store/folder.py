"""The store in a folder: a laptop's disk or a volume that all pods mount."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omnistage.errors import DamagedError, InputError, machine_errors
from omnistage.files import locked, write_atomic
from omnistage.store.digest import check_files, hash_files
from omnistage.store.layout import CONTENT, DONE, MANIFEST, Progress, record_manifest, scratch_root
from omnistage.store.manifest import Kind, Manifest, content_digest
from omnistage.store.uris import uri_path


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
