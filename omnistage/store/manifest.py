"""The manifest: the small JSON that stands for an artifact between two stages."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from omnistage.errors import InputError

Kind = Literal[
    "DatasetTarball", "BaseModel", "RewrittenJSONL", "SFTCheckpoint", "LoRAAdapter", "EvalReport"
]
SCHEMA_VERSION = 1
LOGS = "logs/"


class FileEntry(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    """Relative to the artifact's folder, with ``/``."""
    size: int
    """Bytes."""
    sha256: str


class Manifest(BaseModel):
    """What an artifact is, where its bytes are and what made it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    schema_version: int = SCHEMA_VERSION
    stage: str
    key: str
    digest: str
    """Content digest, see :func:`content_digest`."""
    uri: str
    """Folder of the artifact: ``file://…`` or ``s3://…``."""
    files: list[FileEntry]
    counts: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    produced_by: dict[str, Any] = {}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)

    def to_json(self) -> bytes:
        """Return the manifest as indented JSON."""
        return orjson.dumps(
            self.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        )

    @classmethod
    def from_json(cls, data: bytes | str, where: str) -> "Manifest":
        """Parse a manifest.

        Args:
            data: The JSON text.
            where: Named in the error.

        Raises:
            InputError: If it is not a manifest of a schema version known here.
        """
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as e:
            first = e.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the whole"
            raise InputError(f"{where}: not a manifest: {field}: {first['msg']}") from e
        if manifest.schema_version != SCHEMA_VERSION:
            raise InputError(
                f"{where}: manifest of schema version {manifest.schema_version}; this omnistage "
                f"reads version {SCHEMA_VERSION}"
            )
        return manifest


def content_digest(files: list[FileEntry]) -> str:
    """Return the sha256 over the sorted paths, sizes and digests of an artifact's files.

    Files under ``logs/`` hold time stamps and speeds that differ from run to run; they belong to
    the artifact but not to its content, so a stage downstream does not run again for them.
    """
    lines = sorted(
        f"{f.path}\0{f.size}\0{f.sha256}\n" for f in files if not f.path.startswith(LOGS)
    )
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def content_name(manifest: Manifest) -> str:
    """Return where an artifact's files are within any store: the same on every machine."""
    return f"{manifest.stage}/{manifest.key}/content"


def list_files(folder: Path) -> list[Path]:
    """Return every file below ``folder``, sorted by its path.

    Raises:
        InputError: If something there is neither a plain file nor a folder.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InputError(f"{path}: an artifact holds plain files only")
        if path.is_file():
            found.append(path)
    return found
