"""What a source is made of: files that can be fetched, and what is known of them beforehand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where the bytes of a file are served, or the file itself."""

    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    path: Path | None = None


@dataclass(frozen=True)
class XetFile:
    """A hub file that can also be fetched with the xet protocol."""

    repo: str
    repo_type: str
    revision: str
    name: str
    endpoint: str | None


@dataclass(frozen=True)
class RemoteFile:
    """A file of a source."""

    path: str
    """Below ``files/`` in the artifact."""
    url: str
    """For people: messages and ``sources.json``; without credentials."""
    places: Callable[[], list[Place]]
    """Where to get it, the first choice first; asked for before each try, so that signed
    addresses are fresh."""
    size: int | None = None
    sha256: str | None = None
    """As the source or the recipe states it."""
    git_sha1: str | None = None
    """Git's blob hash, which the hub states for files outside LFS."""
    version: str = ""
    """What else identifies the bytes, such as an entity tag or a commit."""
    etag: str | None = None
    """What every place must go on saying."""
    xet: XetFile | None = None

    @property
    def identity(self) -> str:
        """What the bytes fetched so far must belong to."""
        return f"{self.url}\n{self.sha256 or self.git_sha1 or self.version}"


@dataclass(frozen=True)
class Listing:
    """The files of a source and what ``sources.json`` says of it."""

    files: list[RemoteFile]
    record: dict[str, Any]
