"""The stages ``download`` and ``download_model``."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from components.download.collect import Collected, Indexing, collect
from components.download.config import AnySource, DownloadSettings, FetchSettings, ModelSettings
from components.download.model_files import check_weights, make_safe, model_type, unsafe
from components.download.sources.listing import list_source
from components.download.transfer.remote_file import Listing, RemoteFile
from omnistage.archives.extract import safe_index_path
from omnistage.archives.names import archive_folders, place_members
from omnistage.errors import InputError, machine_errors
from omnistage.events import Events
from omnistage.files import counted, human_bytes, read_jsonl, write_json
from omnistage.stage.contract import Context, Result, Stage

FILES = "files"
_NAMED = 5  # media named in a warning
_DECODED = (
    5_000_000_000  # bytes of sources whose media are decoded unless the recipe says otherwise
)


def download(context: Context[DownloadSettings]) -> Result:
    """Fetch a data set, verified, with an index of the members of its archives.

    Raises:
        InputError: If a source, an archive or a stated hash is wrong.
        TransientError: If a source fails for too long.
    """
    config = context.config
    listings = _list(config, config.sources, "dataset", context)
    known = sum(file.size or 0 for listing in listings for file in listing.files)
    decode = known <= _DECODED if config.probe is None else config.probe == "decode"
    indexing = Indexing(config.limits, config.member_encoding, decode)
    collected = _collect(context, listings, indexing)
    with machine_errors("writing the index"):
        counts = _write_index(collected, context.out, context.events)
    return Result(counts={**_counts(collected), **counts}, metadata=_metadata(listings))


def download_model(context: Context[ModelSettings]) -> Result:
    """Fetch a base model, verified, without what could run code; its ``model_type`` is recorded.

    Raises:
        InputError: If a source or a stated hash is wrong, there is no ``config.json``, or nothing
            but pickles holds the weights.
        TransientError: If a source fails for too long.
    """
    listings = _list(context.config, context.config.sources, "model", context)
    paths = [file.path for listing in listings for file in listing.files]
    if "config.json" not in paths:
        raise InputError("download_model: no config.json among the files: not a model folder")
    left_out = {path: reason for path in paths if (reason := unsafe(path))}
    check_weights(paths, list(left_out))
    for path, reason in left_out.items():
        context.events.warn(f"{path} is left out: it is {reason}")
    listings = [
        Listing([file for file in listing.files if file.path not in left_out], listing.record)
        for listing in listings
    ]
    collected = _collect(context, listings, None)
    folder = context.out / FILES
    removed, stripped = make_safe(folder, context.events.warn)
    safety = {"left_out": sorted([*left_out, *removed]), "auto_map_removed": stripped}
    metadata = {**_metadata(listings), **safety, "model_type": model_type(folder)}
    return Result(counts=_counts(collected), metadata=metadata)


STAGE = Stage(
    "download",
    kind="DatasetTarball",
    version=2,
    config=DownloadSettings,
    inputs={},
    run=download,
    program="components.download",
    timeout=7 * 86400,
    source="data",
)
MODEL_STAGE = Stage(
    "download_model",
    kind="BaseModel",
    version=2,
    config=ModelSettings,
    inputs={},
    run=download_model,
    program="components.download.model",
    # The tiny base model is made by torch, which only the trainer image has.
    launched=lambda config: any(source.type == "tiny" for source in config.sources),
    max_nodes=1,
    source="model",
)


def _list(
    config: FetchSettings, sources: Sequence[AnySource], repo_type: str, context: Context[Any]
) -> list[Listing]:
    """List all sources, with the recipe's own hashes put in."""
    seen: dict[str, str] = {}
    stated = dict(config.sha256)
    listings = []
    for source in sources:
        listing = list_source(source, repo_type, config.transfer, context.work, context.events)
        files = []
        for file in listing.files:
            if file.path in seen:
                raise InputError(
                    f"two sources have {file.path!r}: {seen[file.path]} and {file.url}; give one "
                    "of them a target"
                )
            seen[file.path] = file.url
            files.append(_stated(file, stated.pop(file.path, None)))
        listings.append(Listing(files, listing.record))
    _check_tree(seen)
    if stated:
        raise InputError(f"sha256: no source has the file {min(stated)!r}")
    return listings


def _stated(file: RemoteFile, sha256: str | None) -> RemoteFile:
    if sha256 is None:
        return file
    if file.sha256 and file.sha256 != sha256:
        raise InputError(
            f"{file.path}: the recipe states sha256 {sha256}, the source states {file.sha256}"
        )
    return dataclasses.replace(file, sha256=sha256)


def _check_tree(paths: dict[str, str]) -> None:
    """Refuse a file whose name is another one's folder."""
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder:
            if folder in paths:
                raise InputError(f"{folder!r} is a file, and the folder of {path!r}")
            folder = folder.rpartition("/")[0]


def _collect(
    context: Context[Any], listings: Sequence[Listing], indexing: Indexing | None
) -> Collected:
    files = [file for listing in listings for file in listing.files]
    known = sum(file.size or 0 for file in files)
    context.events.message(f"{counted(len(files), 'file')}, {human_bytes(known)}")
    collected = collect(
        files,
        context.out / FILES,
        context.work,
        context.config.transfer,
        indexing,
        context.events,
    )
    with machine_errors("writing sources.json"):
        write_json(
            context.out / "sources.json",
            [
                {
                    **listing.record,
                    "files": [
                        {
                            "path": file.path,
                            "url": file.url,
                            "size": collected.entries[file.path]["size"],
                            "sha256": collected.entries[file.path]["sha256"],
                            "stated": {
                                "size": file.size,
                                "sha256": file.sha256,
                                "git_sha1": file.git_sha1,
                            },
                        }
                        for file in listing.files
                    ],
                }
                for listing in listings
            ],
        )
    return collected


def _write_index(collected: Collected, out: Path, events: Events) -> dict[str, Any]:
    """Write ``index.jsonl``: archives and loose media in the order of their names."""
    media = _MediaSummary()
    placed: dict[str, str] = {}
    members = 0
    part = out / "index.jsonl"
    with part.open("wb") as f:
        for row in _rows(collected):
            if not safe_index_path(row["path"]):
                raise InputError(
                    f"{row['file']!r} is refused: its members would go to {row['path']!r}, out of "
                    "the media root; give the file another name"
                )
            if row["path"] in placed:
                raise InputError(
                    f"{row['file']!r} and {placed[row['path']]!r} both hold {row['path']!r}; give "
                    "their sources different targets"
                )
            placed[row["path"]] = row["file"]
            members += row["member"] is not None
            if row["media"]:
                media.add(row["path"], row["media"])
            f.write(orjson.dumps(row) + b"\n")
    _check_tree(placed)
    media.tell(events)
    return {"archives": len(collected.archives), "members": members, **media.counts()}


class _MediaSummary:
    """What is counted of the media, and said when all are known."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._undecodable: list[str] = []
        self._converted: Counter[str] = Counter()
        self._paged: list[str] = []

    def add(self, path: str, media: dict[str, Any]) -> None:
        """Count a medium."""
        self._kinds[media.get("type", "undecodable")] += 1
        if "error" in media:
            self._undecodable.append(f"{path} ({media['error']})")
        if "converted" in media:
            self._converted[media["converted"]] += 1
        if media.get("type") == "image" and "frames" in media:
            self._paged.append(path)

    def counts(self) -> dict[str, int]:
        """Return the counts for the manifest."""
        kinds = {kind: self._kinds[kind] for kind in ("image", "audio", "video", "undecodable")}
        return {**kinds, "converted": self._converted.total()}

    def tell(self, events: Events) -> None:
        """Say what a user would not expect."""
        if self._undecodable:
            named = "; ".join(self._undecodable[:_NAMED])
            count = len(self._undecodable)
            media = "1 medium" if count == 1 else f"{count:,} media"
            events.warn(f"{media} cannot be decoded: {named}")
        if self._converted:
            why = ", ".join(f"{reason} ({n:,})" for reason, n in self._converted.most_common())
            events.message(f"images that will be converted to what a viewer shows: {why}")
        if self._paged:
            named = "; ".join(self._paged[:_NAMED])
            count = len(self._paged)
            images = "1 image has" if count == 1 else f"{count:,} images have"
            events.warn(
                f"{images} several frames or pages, of which a model sees the first: {named}"
            )


def _rows(collected: Collected) -> Iterator[dict[str, Any]]:
    folders = archive_folders(collected.archives)
    archives = {archive.name: archive for archive in collected.archives}
    for path in sorted(collected.entries):
        archive = archives.get(path)
        entry = collected.entries[path]
        if archive:
            rows = collected.rows(archive)
            names = [row["member"] for row in read_jsonl(rows)]
            paths = place_members(folders[path], names)
            for row, where in zip(read_jsonl(rows), paths, strict=True):
                yield {"path": where, "file": path, **row}
        elif entry["media"]:
            yield {
                "path": path,
                "file": path,
                "member": None,
                "size": entry["size"],
                "sha256": entry["sha256"],
                "media": entry["media"],
                "offset": None,
            }


def _counts(collected: Collected) -> dict[str, Any]:
    return {
        "files": len(collected.entries),
        "bytes": sum(entry["size"] for entry in collected.entries.values()),
    }


def _metadata(listings: Sequence[Listing]) -> dict[str, Any]:
    return {"sources": [{**listing.record, "files": len(listing.files)} for listing in listings]}
