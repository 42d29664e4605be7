"""The manifest: the small JSON that stands for an artifact between two stages."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from omnistage.errors import InputError
from omnistage.files import one_line, walk

Kind = Literal[
    "DatasetTarball",
    "BaseModel",
    "RewrittenJSONL",
    "SFTCheckpoint",
    "LoRAAdapter",
    "RLCheckpoint",
    "EvalReport",
]
SCHEMA_VERSION = 1
LOGS = "logs/"
_LONGEST_NAME, _LONGEST_PATH = 255, 4096  # bytes, on the usual file systems


def path_problem(path: str) -> str | None:
    """Return why a path is not a plain relative one, or None when it is.

    A plain path stays inside the folder that it is joined to: names separated by ``/``, none of
    them empty, ``.`` or ``..``; no NUL, no drive letter. A backslash is a character like others,
    since published data sets have files named ``C:\\Users\\video.zip``, but no way up.
    """
    if "\0" in path:
        return "it holds a NUL"
    if path.startswith("/") or re.match(r"[A-Za-z]:/", path):
        return "it is absolute"
    names = path.split("/")
    if not all(names) or "." in names or ".." in re.split(r"[/\\]", path):
        return "one of its names is empty, '.' or '..'"
    if len(path.encode()) > _LONGEST_PATH or any(len(n.encode()) > _LONGEST_NAME for n in names):
        return f"it is longer than {_LONGEST_PATH} bytes, or a name of it than {_LONGEST_NAME}"
    return None


def _plain(path: str) -> str:
    if problem := path_problem(path):
        raise ValueError(f"{path[:200]!r} is not a plain relative path: {problem}")
    return path


NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
"""A stage or a key: both become names of folders."""


class FileEntry(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, AfterValidator(_plain)]
    """Relative to the artifact's folder, with ``/``."""
    size: int = Field(ge=0)
    """Bytes."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def _apart(files: list[FileEntry]) -> list[FileEntry]:
    """Refuse a path that is listed twice, or as a file and as a folder."""
    paths: set[str] = set()
    for entry in files:
        if entry.path in paths:
            raise ValueError(f"{entry.path!r} is listed twice")
        paths.add(entry.path)
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder:
            if folder in paths:
                raise ValueError(f"{folder!r} is listed as a file and as a folder")
            folder = folder.rpartition("/")[0]
    return files


def _provenance(told: dict[str, Any]) -> dict[str, Any]:
    """Refuse what later stages could not read."""
    for name in ("config", "inputs", "libraries"):
        if not isinstance(told.get(name, {}), dict):
            raise ValueError(f"{name} is not an object")
    return told


class Manifest(BaseModel):
    """What an artifact is, where its bytes are and what made it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    schema_version: int = SCHEMA_VERSION
    stage: Name
    key: Name
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    """Content digest, see :func:`content_digest`."""
    uri: str = Field(pattern=r"^(file:///|s3://)[^\x00-\x1f\x7f]*$", max_length=_LONGEST_PATH)
    """Folder of the artifact: ``file://…`` or ``s3://…``."""
    files: Annotated[list[FileEntry], AfterValidator(_apart)]
    counts: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    produced_by: Annotated[dict[str, Any], AfterValidator(_provenance)] = {}

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
            InputError: If it is not a manifest of a schema version known here, or names files
                outside its folder.
        """
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as e:
            first = e.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the whole"
            text = f"not a manifest: {one_line(field)}: {one_line(first['msg'], 400)}"
            raise InputError(f"{where}: {text}") from e
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
    return "sha256:" + files_digest(f for f in files if not f.path.startswith(LOGS))


def files_digest(files: Iterable[FileEntry]) -> str:
    """Return the sha256 over the sorted paths, sizes and digests of files, in hex."""
    lines = sorted(f"{f.path}\0{f.size}\0{f.sha256}\n" for f in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def content_name(manifest: Manifest) -> str:
    """Return where an artifact's files are within any store: the same on every machine."""
    return f"{manifest.stage}/{manifest.key}/content"


def list_files(folder: Path) -> list[Path]:
    """Return every file below ``folder``, sorted by its path.

    Raises:
        InputError: If something there is neither a plain file nor a folder.
    """
    found = []
    for path in sorted(walk(folder)):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InputError(f"{path}: an artifact holds plain files only")
        if path.is_file():
            found.append(path)
    return found
