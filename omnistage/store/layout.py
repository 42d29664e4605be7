"""The store: where the bytes of artifacts live, under ``<stage>/<key>/``.

Layout of an artifact, in a folder as in a bucket::

    <stage>/<key>/content/…       the files
    <stage>/<key>/manifest.json   what they are, with size and sha256 each
    <stage>/<key>/done            written last; without it nothing is there

A reader trusts an artifact only after :meth:`FolderStore.find` has checked the marker, the
manifest, and the size and sha256 of every file.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from omnistage.store.manifest import FileEntry, Kind, Manifest, content_digest

MANIFEST = "manifest.json"
DONE = "done"
CONTENT = "content"
Progress = Callable[[int, int], None]


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


def scratch_root(default: Path) -> Path:
    """Return ``OMNISTAGE_SCRATCH``, or ``default`` where it is not set."""
    return Path(os.environ.get("OMNISTAGE_SCRATCH") or default)


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
