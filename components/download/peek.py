"""Read one small file of a source without downloading the source."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from components.download.config import AnySource, Transfer
from components.download.sources.listing import list_source, name
from components.download.transfer.http import Http
from components.download.transfer.remote_file import RemoteFile
from omnistage.errors import InputError, machine_errors
from omnistage.events import Events

_ONCE = Transfer(tries=1, stall_seconds=15)


def peek(sources: Sequence[AnySource], path: str, repo_type: str, largest: int) -> bytes:
    """Return a file of a source; it is asked for once, not for as long as a download tries.

    Args:
        sources: Where to look, in order.
        path: Of the file in the artifact that the sources would make.
        repo_type: What a hub repository is when the source does not say.
        largest: Most bytes.

    Raises:
        InputError: If no source has it, or it is larger.
        TransientError: If a source does not answer.
    """
    for source in sources:
        with TemporaryDirectory() as work:
            listing = list_source(source, repo_type, _ONCE, Path(work), Events("peek", echo=False))
            found = next((file for file in listing.files if file.path == path), None)
            if found:
                return _read(found, largest)
    raise InputError(f"{', '.join(map(name, sources))}: no file {path} there")


def _read(file: RemoteFile, largest: int) -> bytes:
    if file.size is not None and file.size > largest:
        raise InputError(f"{file.url}: {file.size:,} bytes; a small file is expected here")
    place = file.places()[0]
    if place.path:
        with machine_errors(f"reading {place.path}"):
            return place.path.read_bytes()
    http = Http(1, _ONCE.stall_seconds)
    data = bytearray()
    with http.range(place, 0, file.size, file.size, None) as chunks:
        for chunk in chunks:
            data += chunk
            if len(data) > largest:
                raise InputError(f"{file.url}: over {largest:,} bytes")
    return bytes(data)
