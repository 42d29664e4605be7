"""Settings of the two download stages, for a data set and for a base model."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from components.download.fingerprint import folder_fingerprint
from omnistage.archives.names import safe_path
from omnistage.recipe.errors import secret_in_address
from omnistage.settings import Ask, Settings, added, key_config, operational

_Target = Annotated[
    str,
    Field(
        description="Folder of the artifact that this source's files go to; empty for the top. "
        "Keeps files of the same name from two sources apart."
    ),
]


class _Source(Settings):
    target: _Target = ""

    @field_validator("target")
    @classmethod
    def _safe_target(cls, target: str) -> str:
        return safe_path(target) if target else ""


class FolderSource(_Source):
    """A folder on this machine or on a mounted volume; copied, never changed."""

    type: Literal["folder"]
    path: str = Field(description="The folder.")
    patterns: list[str] = Field(
        default=["*"], description="Shell patterns of relative paths to take; * crosses folders."
    )
    fingerprint: str | None = Field(
        default=None,
        description="Filled in when the recipe is resolved, from the files' paths, sizes and "
        "times, so that a changed folder is another stage key. Leave it out.",
    )


class HttpsFile(Settings):
    """One file by its address; what is secret in it comes from OMNISTAGE_SIGNED_URLS."""

    url: str = Field(pattern="^https?://", description="Address; ranges are used where served.")
    mirrors: list[str] = Field(
        default=[], description="Addresses of the same bytes, tried in turn when one fails."
    )
    name: str | None = Field(
        default=None, description="Name to store it under; by default the last part of the URL."
    )
    sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="What its bytes must hash to."
    )
    size: int | None = Field(default=None, ge=0, description="What its size must be, in bytes.")

    @model_validator(mode="after")
    def _no_secret(self) -> "HttpsFile":
        for url in (self.url, *self.mirrors):
            if tip := secret_in_address(url):
                raise ValueError(f"{tip}: settings hold no secrets")
        return self


class HttpsSource(_Source):
    """Files by their addresses."""

    type: Literal["https"]
    files: list[HttpsFile] = Field(min_length=1, description="The files.")


class HubSource(_Source):
    """A repository of the Hugging Face hub; a private one needs HF_TOKEN in the environment."""

    type: Literal["hub"]
    repo: str = Field(pattern="^[^/ ]+/[^/ ]+$|^[^/ ]+$", description="owner/name.")
    repo_type: Literal["dataset", "model"] | None = Field(
        default=None, description="By default what the stage fetches: a data set or a model."
    )
    revision: str = Field(
        default="main",
        description="Commit, tag or branch; resolved to a commit before the first byte.",
    )
    allow_patterns: list[str] = Field(default=[], description="Take only files that match one.")
    ignore_patterns: list[str] = Field(default=[], description="Leave out files that match one.")


class ModelScopeSource(_Source):
    """A model of ModelScope; a private one needs MODELSCOPE_API_TOKEN in the environment."""

    type: Literal["modelscope"]
    model: str = Field(pattern="^[^/ ]+/[^/ ]+$", description="owner/name.")
    revision: str = Field(default="master", description="Branch, tag or commit.")
    allow_patterns: list[str] = Field(default=[], description="Take only files that match one.")
    ignore_patterns: list[str] = Field(default=[], description="Leave out files that match one.")


class S3Source(_Source):
    """Objects of a bucket; endpoint and credentials come from boto3's environment variables."""

    type: Literal["s3"]
    uri: str = Field(pattern="^s3://[^/]+", description="s3://bucket/prefix, or one object.")
    allow_patterns: list[str] = Field(default=[], description="Take only files that match one.")
    ignore_patterns: list[str] = Field(default=[], description="Leave out files that match one.")


_GENERATORS = 2  # raised when components/download/tiny makes something else of the same settings


class TinyDataSource(_Source):
    """The small generated data set, packed the way real ones are."""

    key_version: ClassVar[int] = _GENERATORS
    type: Literal["tiny"]
    kind: str = Field(
        default="judge",
        description="What is generated: see components/download/tiny/sets.",
        json_schema_extra=added(),
    )
    settings: dict[str, Any] = Field(default={}, description="Of the generator of this kind.")

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        from components.download.tiny.sets import kind_named

        kind_named(kind)
        return kind

    @field_validator("settings")
    @classmethod
    def _whole(cls, settings: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        from components.download.tiny.sets import KINDS

        if "kind" not in info.data:  # wrong, and said already
            return settings
        return KINDS[info.data["kind"]].settings.model_validate(settings).model_dump(mode="json")


class TinyModelSource(_Source):
    """A small model of one of the families, with random weights."""

    key_version: ClassVar[int] = _GENERATORS
    type: Literal["tiny"]
    settings: dict[str, Any] = Field(
        default={}, description="Of the generator: see components/download/tiny/settings.py."
    )

    @field_validator("settings")
    @classmethod
    def _whole(cls, settings: dict[str, Any]) -> dict[str, Any]:
        from components.download.tiny.settings import TinyModelSettings

        return key_config(TinyModelSettings.model_validate(settings))


DataSource = Annotated[
    FolderSource | HttpsSource | HubSource | S3Source | ModelScopeSource | TinyDataSource,
    Field(discriminator="type"),
]
ModelSource = Annotated[
    FolderSource | HttpsSource | HubSource | S3Source | ModelScopeSource | TinyModelSource,
    Field(discriminator="type"),
]
AnySource = (
    FolderSource
    | HttpsSource
    | HubSource
    | S3Source
    | ModelScopeSource
    | TinyDataSource
    | TinyModelSource
)


class Transfer(Settings):
    """How bytes are fetched; none of it changes which bytes."""

    workers: int = Field(default=8, ge=1, le=64, description="Connections side by side.")
    bandwidth: int | None = Field(
        default=None, ge=1000, description="Cap over all connections, in bytes per second."
    )
    stall_seconds: float = Field(
        default=30, gt=0, description="A connection slower than 1 kB/s for so long is given up."
    )
    tries: int = Field(
        default=8, ge=1, description="Tries in a row without a new byte before a file is given up."
    )
    xet: bool = Field(
        default=True,
        description="Use the hub's xet protocol where a file has it; without a bandwidth cap only.",
    )
    processes: int | None = Field(
        default=None, ge=1, description="Processes that hash and index; by default one a core."
    )


class Limits(Settings):
    """What an archive may hold at most; one that holds more is refused, not cut."""

    max_members: int = Field(default=5_000_000, ge=1, description="Files in one archive.")
    max_bytes: int = Field(
        default=4_000_000_000_000, ge=1, description="Uncompressed bytes in one archive."
    )
    max_ratio: float = Field(
        default=200, ge=1, description="Uncompressed to compressed bytes; media lie near 1."
    )


class FetchSettings(Settings):
    """What both stages have."""

    sha256: dict[str, str] = Field(
        default={}, description="File path in the artifact (with its target) to expected sha256."
    )
    transfer: Transfer = Field(
        default=Transfer(),
        json_schema_extra=operational(),
        description="How bytes are fetched: connections, cap, retries.",
    )

    @field_validator("sha256")
    @classmethod
    def _hex(cls, stated: dict[str, str]) -> dict[str, str]:
        for path, digest in stated.items():
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise ValueError(f"{path}: {digest!r} is not 64 lower-case hex digits")
        return stated


class DownloadSettings(FetchSettings):
    """Settings of the stage ``download``."""

    sources: list[DataSource] = Field(min_length=1, description="Where the data come from.")
    limits: Limits = Field(
        default=Limits(),
        json_schema_extra=operational(),
        description="What an archive may hold at most.",
    )
    member_encoding: str | None = Field(
        default=None,
        description="Encoding of member names in archives that do not say theirs, such as gbk; "
        "guessed by default.",
    )

    probe: Literal["decode", "header"] | None = Field(
        default=None,
        description="What is read of each medium: decode finds also what is broken behind the "
        "header, header is all that a set of 100 GB may have time for. By default, decode up to "
        "5 GB of sources.",
    )

    def asks(self) -> list[Ask]:
        """Return the folders that are read."""
        return _folders(self.sources)

    def resolve(self) -> "DownloadSettings":
        """Return the settings with the fingerprint of each folder source filled in."""
        return self.model_copy(update={"sources": [_resolved(s) for s in self.sources]})


class ModelSettings(FetchSettings):
    """Settings of the stage ``download_model``."""

    sources: list[ModelSource] = Field(min_length=1, description="Where the model comes from.")

    @model_validator(mode="after")
    def _no_target(self) -> "ModelSettings":
        if any(source.target for source in self.sources):
            raise ValueError("a model's files stay at the top: leave out target")
        return self

    def asks(self) -> list[Ask]:
        """Return the folders that are read."""
        return _folders(self.sources)

    def resolve(self) -> "ModelSettings":
        """Return the settings with the fingerprint of each folder source filled in."""
        return self.model_copy(update={"sources": [_resolved(s) for s in self.sources]})


def _folders(sources: Sequence[Any]) -> list[Ask]:
    """Return the folders among sources, as asks."""
    numbered = enumerate(sources)
    found = [(n, s.path) for n, s in numbered if isinstance(s, FolderSource)]
    return [Ask("source_folders", path, f"sources.{n}.path") for n, path in found]


def _resolved(source: Any) -> Any:
    if not isinstance(source, FolderSource):
        return source
    found = folder_fingerprint(source.path, source.patterns)
    return source.model_copy(update={"fingerprint": found})
