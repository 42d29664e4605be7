"""The store in a folder: a laptop's disk or a volume that all pods mount."""

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omnistage.errors import DamagedError, InputError, machine_errors
from omnistage.files import is_there, locked, sync, walk, write_atomic
from omnistage.store.digest import Count, Progress, check_files, hash_files
from omnistage.store.layout import (
    CONTENT,
    DONE,
    MANIFEST,
    check_manifest,
    record_manifest,
    scratch_root,
)
from omnistage.store.manifest import Kind, Manifest
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

    def find(self, stage: str, key: str, kind: Kind | None = None) -> Manifest | None:
        """Return the artifact after checking every byte, or None when there is none.

        Raises:
            DamagedError: If it is there but not whole.
        """
        home = self._home(stage, key)
        return self._check(home, stage, key, kind) if is_there(home) else None

    def recover(
        self, stage: str, key: str, kind: Kind, warn: Callable[[str], None]
    ) -> Manifest | None:
        """Return the artifact, or adopt ``.<key>.new`` when a killed commit left it whole.

        A damaged artifact and what else killed processes left of this key are removed.
        """
        home, new = self._home(stage, key), self._new(stage, key)
        try:
            found = self.find(stage, key, kind)
        except DamagedError as e:
            warn(f"{e}; making it again")
            self._remove(home)
            found = None
        if found is None and (new / CONTENT).is_dir():
            try:
                found = self._check(new, stage, key, kind, finished=False)
            except DamagedError as e:
                warn(f"the commit of {stage} {key} was cut short; making it again ({e})")
            else:
                self._publish(new, home, found)
                found = found.model_copy(update={"uri": (home / CONTENT).as_uri()})
        for left in (new, *home.parent.glob(f".{key}.discarded.*")):
            shutil.rmtree(left, ignore_errors=True)
        return found

    def discard(self, stage: str, key: str) -> None:
        """Remove an artifact; it is renamed first, so no reader sees a part of it."""
        self._remove(self._home(stage, key))
        shutil.rmtree(self._new(stage, key), ignore_errors=True)

    def commit(
        self,
        folder: Path,
        kind: Kind,
        stage: str,
        key: str,
        progress: Progress | None = None,
        **fields: Any,
    ) -> Manifest:
        """Move the files of ``folder`` into the store under their final name.

        Raises:
            InputError: If the disk is full or cannot be written.
        """
        home, new = self._home(stage, key), self._new(stage, key)
        with machine_errors(f"writing {home}"):
            files = hash_files(folder, progress)
            manifest = record_manifest((home / CONTENT).as_uri(), files, kind, stage, key, **fields)
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            write_atomic(new / MANIFEST, manifest.to_json())
            _move(folder, new / CONTENT, Count(progress, manifest.size))
            try:
                first = self.find(stage, key, kind)
            except DamagedError:
                first = None
            if first:
                shutil.rmtree(new, ignore_errors=True)
                return first
            self._remove(home)
            self._publish(new, home, manifest)
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
        if not is_there(folder):
            return []
        found = (p for p in walk(folder) if p.is_file() and not p.name.endswith(".part"))
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

    def _home(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def _new(self, stage: str, key: str) -> Path:
        return self.root / stage / f".{key}.new"

    def _saved(self, stage: str, key: str) -> Path:
        return self.root / stage / f".{key}.saved"

    def _check(
        self, home: Path, stage: str, key: str, kind: Kind | None, *, finished: bool = True
    ) -> Manifest:
        """Return the manifest of an artifact's folder after checking every byte."""
        if home.is_symlink() or not home.is_dir():
            raise DamagedError(f"{home} is damaged: not a folder")
        try:
            data = (home / MANIFEST).read_bytes()
            marker = (home / DONE).read_text().strip() if finished else None
        except FileNotFoundError as e:
            raise DamagedError(f"{home} is incomplete: {Path(e.filename).name!r} is missing") from e
        manifest = check_manifest(data, home.as_uri(), stage, key, kind)
        if marker not in (None, manifest.digest):
            raise DamagedError(f"{home / DONE} is damaged: it is the marker of another artifact")
        check_files(home / CONTENT, manifest, f"{stage} {key}")
        return manifest

    def _remove(self, home: Path) -> None:
        gone = home.with_name(f".{home.name}.discarded.{uuid.uuid4().hex[:8]}")
        if is_there(home):
            with machine_errors(f"removing {home}"):
                home.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _publish(self, new: Path, home: Path, manifest: Manifest) -> None:
        """Give a whole artifact its final name, all at once."""
        for entry in manifest.files:
            sync(new / CONTENT / entry.path)
        write_atomic(new / DONE, manifest.digest + "\n")
        sync(new)
        new.rename(home)
        sync(home.parent)


def _move(folder: Path, target: Path, count: Count) -> None:
    """Rename a folder where both are on one file system; else copy it, and then remove it.

    ``shutil.move`` copies after any fault of the renaming, which may have been done all the same.
    """

    def copy(source: str, copied: str) -> None:
        shutil.copy2(source, copied)
        count(Path(copied).stat().st_size)

    try:
        os.rename(folder, target)  # noqa: PTH104 - as shutil.move does
    except OSError as e:
        if e.errno != errno.EXDEV:
            raise
        shutil.copytree(folder, target, copy_function=copy)
        shutil.rmtree(folder)
