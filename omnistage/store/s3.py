"""The store on S3, or on anything that speaks its protocol.

The endpoint and the credentials come from boto3's own environment variables and files
(``AWS_ENDPOINT_URL_S3``, ``AWS_ACCESS_KEY_ID``, …). Clones that refuse the default checksums of
boto3 ≥ 1.36 want ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required``.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omnistage.errors import DamagedError, TransientError, machine_errors
from omnistage.files import locked, private_folder, walk, write_atomic
from omnistage.store import objects
from omnistage.store.digest import Count, Progress, check_files, file_problem, hash_files, seal
from omnistage.store.layout import (
    CONTENT,
    MANIFEST,
    check_manifest,
    record_manifest,
    scratch_root,
)
from omnistage.store.manifest import FileEntry, Kind, Manifest, files_digest
from omnistage.store.s3_client import split

_COMMITS = 10  # attempts to write the manifest while others write and remove theirs


class S3Store:
    """A store under a prefix of a bucket.

    Args:
        uri: ``s3://bucket/prefix``.
    """

    def __init__(self, uri: str) -> None:
        self.bucket, self.prefix = split(uri)

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def scratch(self) -> Path:
        """``OMNISTAGE_SCRATCH``, or this user's folder in the machine's temporary folder."""
        return scratch_root()

    def find(self, stage: str, key: str, kind: Kind | None = None) -> Manifest | None:
        """Return the artifact when its manifest and every object's size are right.

        The bytes are hashed when :meth:`local` fetches them.

        Raises:
            DamagedError: If it is there but not whole.
        """
        data = objects.read(f"{self._home(stage, key)}/{MANIFEST}")
        return None if data is None else self._check(data, stage, key, kind)

    def recover(
        self, stage: str, key: str, kind: Kind, warn: Callable[[str], None]
    ) -> Manifest | None:
        """Return the artifact, or remove one that is damaged.

        A killed commit left either a manifest, and then all is there, or objects that no manifest
        names, which the next commit from this machine's work folder takes over.
        """
        where = f"{self._home(stage, key)}/{MANIFEST}"
        found = objects.read_tagged(where)
        if found is None:
            return None
        try:
            return self._check(found[0], stage, key, kind)
        except DamagedError as e:
            warn(f"{e}; making it again")
            self._remove(stage, key, *found)
            return None

    def discard(self, stage: str, key: str) -> None:
        """Remove an artifact, the manifest first; files of an attempt under way stay."""
        found = objects.read_tagged(f"{self._home(stage, key)}/{MANIFEST}")
        if found:
            self._remove(stage, key, *found)

    def commit(
        self,
        folder: Path,
        kind: Kind,
        stage: str,
        key: str,
        progress: Progress | None = None,
        **fields: Any,
    ) -> Manifest:
        """Upload the files, then the manifest on the condition that there is none.

        Each attempt has a content folder of its own, so two writers never mix their files. Who
        comes second takes the artifact of the first. After a kill the same bytes go on from the
        files that were uploaded whole.
        """
        files = hash_files(folder, progress)
        notes = folder.with_name(f".{folder.name}.upload")
        attempt = _attempt(notes, files)
        home = self._home(stage, key)
        manifest = record_manifest(f"{home}/{CONTENT}/{attempt}", files, kind, stage, key, **fields)
        self._upload(folder, manifest, progress)
        notes.unlink()  # from here on another process may remove what was uploaded
        for _ in range(_COMMITS):
            if objects.create(f"{home}/{MANIFEST}", manifest.to_json()):
                break
            first = self.recover(stage, key, kind, lambda _: None)
            if first is None:
                continue  # it was damaged and is removed now
            if first.uri != manifest.uri:  # else the answer to our own request was lost
                self._delete_below(f"{manifest.uri}/")
            manifest = first
            break
        else:
            raise TransientError(f"writing {home}/{MANIFEST}: others write and remove it meanwhile")
        shutil.rmtree(folder)
        return manifest

    def local(self, manifest: Manifest, progress: Progress | None = None) -> Path:
        """Fetch the artifact into the scratch folder once, verified, and return it there.

        A fetch that was killed goes on after the files that came whole.

        Args:
            manifest: Of the artifact.
            progress: Told the bytes fetched, and those in all.

        Raises:
            DamagedError: If the bytes fetched are not those of the manifest.
            InputError: If there is no room for them, or the artifact is gone.
        """
        name = files_digest(manifest.files)[:32]
        with machine_errors(f"fetching {manifest.uri}"):
            home = private_folder(self.scratch / "artifacts")
            final, sealed = home / name, home / f"{name}.seal"
            with locked(home / f"{name}.lock"):
                if final.is_dir():
                    if _is_unchanged(final, sealed, manifest):
                        return final
                    shutil.rmtree(final)
                part = home / f"{name}.part"
                part.mkdir(exist_ok=True)
                self._download(manifest, part, progress)
                check_files(part, manifest, manifest.uri)
                write_atomic(sealed, seal(part))
                part.rename(final)
        return final

    def work_folder(self, stage: str, key: str) -> Path:
        """Return a node-local folder."""
        folder = self.scratch / "work" / stage / key
        with machine_errors("writing the scratch folder"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def lock(self, stage: str, key: str) -> Iterator[None]:
        """Hold a node-local lock; between nodes the conditional commit decides."""
        with locked(self.scratch / "locks" / f"{stage}.{key}", f"{stage} {key}"):
            yield

    def save_work(self, stage: str, key: str, name: str, source: Path) -> None:
        """Upload the file to ``<stage>/.<key>.saved/<name>``."""
        objects.upload(source, self._saved(stage, key) + name)

    def list_work(self, stage: str, key: str) -> list[str]:
        """Return the kept objects' names below their prefix."""
        prefix = self._saved(stage, key)
        return [found.uri.removeprefix(prefix) for found in objects.list_below(prefix)]

    def fetch_work(self, stage: str, key: str, name: str, target: Path) -> None:
        """Download a kept object."""
        target.parent.mkdir(parents=True, exist_ok=True)
        objects.download(self._saved(stage, key) + name, target)

    def drop_work(self, stage: str, key: str, prefix: str = "") -> None:
        """Remove kept objects."""
        self._delete_below(self._saved(stage, key) + prefix)

    def _home(self, stage: str, key: str) -> str:
        return f"{self.uri}/{stage}/{key}"

    def _saved(self, stage: str, key: str) -> str:
        return self._home(stage, f".{key}.saved") + "/"

    def _check(self, data: bytes, stage: str, key: str, kind: Kind | None) -> Manifest:
        """Return a manifest after comparing it with its place and with the objects it names."""
        manifest = check_manifest(data, self._home(stage, key), stage, key, kind)
        if problem := _difference(manifest):
            raise DamagedError(f"{manifest.uri}/{problem}")
        return manifest

    def _remove(self, stage: str, key: str, data: bytes, tag: str) -> None:
        """Remove the version of an artifact that was read, not one committed since."""
        objects.delete_version(f"{self._home(stage, key)}/{MANIFEST}", tag)
        try:
            manifest = check_manifest(data, self._home(stage, key), stage, key)
        except DamagedError:
            return  # its files cannot be told from those of an attempt under way
        self._delete_below(f"{manifest.uri}/")

    def _delete_below(self, uri: str) -> None:
        objects.delete([found.uri for found in objects.list_below(uri)])

    def _upload(self, folder: Path, manifest: Manifest, progress: Progress | None) -> None:
        there, count = _sizes(manifest), Count(progress, manifest.size)
        for entry in manifest.files:
            if there.get(entry.path) == entry.size:
                count(entry.size)
            else:
                objects.upload(folder / entry.path, f"{manifest.uri}/{entry.path}", count)
        if problem := _difference(manifest):  # a proxy may have answered for S3
            raise TransientError(f"{manifest.uri}/{problem} after it was uploaded")

    def _download(self, manifest: Manifest, folder: Path, progress: Progress | None) -> None:
        count = Count(progress, manifest.size)
        _remove_unlisted(folder, manifest)
        for entry in manifest.files:
            target = folder / entry.path
            if file_problem(target, entry) is None:
                count(entry.size)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                objects.download(f"{manifest.uri}/{entry.path}", target, count)
            except FileNotFoundError as e:
                raise DamagedError(f"{manifest.uri}/{entry.path}: missing") from e


def _remove_unlisted(folder: Path, manifest: Manifest) -> None:
    """Remove what a killed fetch left in the middle of, and what is no file of the artifact."""
    listed = {entry.path for entry in manifest.files}
    for path in sorted(walk(folder), reverse=True):  # what is in a folder before the folder
        if path.is_symlink() or not path.is_dir():
            if path.relative_to(folder).as_posix() not in listed:
                path.unlink()
        elif not any(path.iterdir()):
            path.rmdir()


def _sizes(manifest: Manifest) -> dict[str, int]:
    """Return the size of each object of an artifact by its path."""
    prefix = f"{manifest.uri}/"
    return {o.uri.removeprefix(prefix): o.size for o in objects.list_below(prefix)}


def _difference(manifest: Manifest) -> str | None:
    """Return the first object of an artifact that differs from the manifest, and how."""
    sizes = _sizes(manifest)
    for entry in manifest.files:
        size = sizes.pop(entry.path, None)
        if size != entry.size:
            have = "missing" if size is None else f"{size} bytes, not {entry.size}"
            return f"{entry.path}: {have}"
    return f"{min(sizes)}: not in the manifest" if sizes else None


def _attempt(notes: Path, files: list[FileEntry]) -> str:
    """Return the id of this attempt: that of a killed one if it was to upload the same bytes."""
    digest = files_digest(files)
    if notes.is_file():
        attempt, _, of = notes.read_text().partition(" ")
        if of == digest:
            return attempt
    attempt = uuid.uuid4().hex[:12]
    write_atomic(notes, f"{attempt} {digest}")
    return attempt


def _is_unchanged(folder: Path, sealed: Path, manifest: Manifest) -> bool:
    """Whether a fetched folder is as it was verified; its bytes are read again only if in doubt."""
    if sealed.is_file() and sealed.read_text() == seal(folder):
        return True
    try:
        check_files(folder, manifest, str(folder))
    except DamagedError:
        return False
    write_atomic(sealed, seal(folder))
    return True
