"""List a source's files, whatever its type, retrying transient errors."""

import dataclasses
from pathlib import Path

from components.download.config import (
    AnySource,
    FolderSource,
    HttpsSource,
    HubSource,
    ModelScopeSource,
    S3Source,
    Transfer,
)
from components.download.sources.folder import list_folder
from components.download.sources.https import list_https
from components.download.sources.hub import list_hub
from components.download.sources.modelscope import list_modelscope
from components.download.sources.tiny import list_tiny
from components.download.transfer.remote_file import Listing
from omnistage.archives.names import safe_path
from omnistage.errors import InputError, TransientError
from omnistage.events import Events
from omnistage.files import counted
from omnistage.retry import retry


def list_source(
    source: AnySource, repo_type: str, transfer: Transfer, work: Path, events: Events
) -> Listing:
    """Return the files of a source, with its target in front of their paths.

    Args:
        source: Which.
        repo_type: What a hub repository is when the source does not say.
        transfer: How often to try.
        work: Folder that generated files may be put in.
        events: Where warnings go.

    Raises:
        InputError: If it is not there, may not be read, or has a file with an unsafe name.
        TransientError: If it does not answer.
    """
    try:
        listing = retry(
            lambda: _list(source, repo_type, transfer, work, events),
            tries=transfer.tries,
            longest=30.0,
            jitter=0.25,
        )
    except TransientError as e:
        raise TransientError(
            f"source {name(source)}: could not be listed after "
            f"{counted(transfer.tries, 'try', 'tries')}: {e}"
        ) from e
    if not listing.files:
        raise InputError(f"source {name(source)}: no file matches the patterns")
    files = []
    for file in listing.files:
        try:
            path = safe_path(file.path)
        except ValueError as e:
            raise InputError(f"source {name(source)}: file {file.path!r} is refused: {e}") from e
        path = f"{source.target}/{path}" if source.target else path
        files.append(dataclasses.replace(file, path=path))
    record = {"type": source.type, "target": source.target, **listing.record}
    return Listing(files, record)


def name(source: AnySource) -> str:
    """Return what a source is called in messages."""
    match source:
        case FolderSource():
            return source.path
        case HttpsSource():
            return source.files[0].url
        case HubSource():
            return source.repo
        case S3Source():
            return source.uri
        case ModelScopeSource():
            return source.model
    return source.type


def _list(
    source: AnySource, repo_type: str, transfer: Transfer, work: Path, events: Events
) -> Listing:
    match source:
        case FolderSource():
            return list_folder(source)
        case HttpsSource():
            return list_https(source)
        case HubSource():
            return list_hub(source, source.repo_type or repo_type, events)
        case S3Source():
            # Imported here: boto3 takes longer to load than all the rest together.
            from components.download.sources.s3 import list_s3

            return list_s3(source)
        case ModelScopeSource():
            return list_modelscope(source, transfer, events)
    return list_tiny(source, work, events)
