"""The store: where the bytes of artifacts live, under ``<stage>/<key>/``.

Layout of an artifact in a folder::

    <stage>/<key>/content/…       the files
    <stage>/<key>/manifest.json   what they are, with size and sha256 each
    <stage>/<key>/done            the content digest

All of it is written under another name, ``<stage>/.<key>.new``, and renamed: an artifact is whole
the moment it is visible. In a bucket the files of an attempt are below ``content/<attempt>/``, and
the manifest is written after them, on the condition that there is none; it makes them visible.

Looking needs no lock. Whoever makes an artifact, adopts what a killed commit left, or removes one,
holds the lock of its key.
"""

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from omnistage.errors import DamagedError, InputError
from omnistage.files import private_folder
from omnistage.redact import redacted
from omnistage.store.digest import Progress
from omnistage.store.manifest import FileEntry, Kind, Manifest, content_digest

MANIFEST = "manifest.json"
DONE = "done"
CONTENT = "content"


_CONTENT = re.compile(r"content(/[A-Za-z0-9]+)?")


class Store(Protocol):
    """What a stage needs of a store; ``folder.FolderStore`` and ``s3.S3Store``."""

    @property
    def uri(self) -> str:
        """``file://…`` or ``s3://…``, without a slash at the end."""
        ...

    @property
    def scratch(self) -> Path:
        """Node-local folder for what can be made again, such as extracted archives."""
        ...

    def find(self, stage: str, key: str, kind: Kind | None = None) -> Manifest | None:
        """Return the verified artifact, or None when there is none; changes nothing.

        Args:
            stage: Its stage.
            key: Its stage key.
            kind: What it must be; anything by default.

        Raises:
            DamagedError: If something is there but is not whole; the message names the file.
        """
        ...

    def recover(
        self, stage: str, key: str, kind: Kind, warn: Callable[[str], None]
    ) -> Manifest | None:
        """Return the artifact, adopting what a killed commit left whole; the caller holds the lock.

        What is not whole is removed, and ``warn`` is told.
        """
        ...

    def discard(self, stage: str, key: str) -> None:
        """Remove an artifact, whole or damaged; the caller holds the lock."""
        ...

    def commit(
        self,
        folder: Path,
        kind: Kind,
        stage: str,
        key: str,
        progress: Progress | None = None,
        **fields: Any,
    ) -> Manifest:
        """Make the files of ``folder`` an artifact; the caller holds the lock of its key.

        Should a whole artifact be there already, it stays and is returned: the first one wins.

        Args:
            folder: Moved into the store.
            kind: Of the artifact.
            stage: Its stage.
            key: Its stage key.
            progress: Told the bytes done, and those in all; hashing and copying count apart.
            **fields: Other fields of the manifest.
        """
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


def scratch_root(default: Path | None = None) -> Path:
    """Return ``OMNISTAGE_SCRATCH``, or ``default``, or this user's own temporary folder.

    Raises:
        InputError: If the temporary folder belongs to somebody else.
    """
    if given := os.environ.get("OMNISTAGE_SCRATCH"):
        return Path(given)
    return default or private_folder(Path(tempfile.gettempdir()) / f"omnistage-{os.getuid()}")


def record_manifest(
    uri: str, files: list[FileEntry], kind: Kind, stage: str, key: str, **fields: Any
) -> Manifest:
    """Make the manifest of hashed files, with their content digest and without secrets."""
    return Manifest(
        kind=kind,
        stage=stage,
        key=key,
        digest=content_digest(files),
        uri=uri,
        files=files,
        **redacted(fields),
    )


def check_manifest(
    data: bytes, home: str, stage: str, key: str, kind: Kind | None = None
) -> Manifest:
    """Parse a stored manifest and compare it with the place where it lies.

    Args:
        data: The manifest's JSON.
        home: URI of the artifact in the store, ``…/<stage>/<key>``; the store may have been moved
            since the manifest was written.
        stage: The stage it lies under.
        key: The key it lies under.
        kind: What it must be; anything by default.

    Returns:
        The manifest, with the URI that its content has now.

    Raises:
        DamagedError: If it is not a manifest, or that of another artifact.
    """
    where = f"{home}/{MANIFEST}"
    try:
        manifest = Manifest.from_json(data, where)
    except InputError as e:
        raise DamagedError(str(e)) from e
    for name, found, wanted in (
        ("stage", manifest.stage, stage),
        ("key", manifest.key, key),
        ("kind", manifest.kind, kind or manifest.kind),
    ):
        if found != wanted:
            raise DamagedError(f"{where} is damaged: its {name} is {found}, expected {wanted}")
    if content_digest(manifest.files) != manifest.digest:
        raise DamagedError(f"{where} is damaged: the digest is not that of its files")
    return relocated(manifest, home)


def relocated(manifest: Manifest, home: str) -> Manifest:
    """Return a manifest whose content is where the manifest itself lies.

    Args:
        manifest: As it was read.
        home: URI of the artifact, ``…/<stage>/<key>``.

    Raises:
        DamagedError: If its content is not a folder beside it.
    """
    content = manifest.uri.rpartition(f"/{manifest.stage}/{manifest.key}/")[2]
    if not _CONTENT.fullmatch(content):
        raise DamagedError(f"{home}/{MANIFEST} is damaged: no content beside it: {manifest.uri}")
    uri = f"{home}/{content}"
    return manifest if manifest.uri == uri else manifest.model_copy(update={"uri": uri})
