"""Files by their addresses."""

from urllib.parse import unquote, urlsplit

from components.download.config import HttpsFile, HttpsSource
from components.download.sources.signed import signed_place
from components.download.transfer.http import shown
from components.download.transfer.remote_file import Listing, RemoteFile
from omnistage.errors import InputError


def list_https(source: HttpsSource) -> Listing:
    """Return the files; their sizes, where the recipe has none, are asked for when they begin.

    Raises:
        InputError: If an address has no file name and the recipe gives none, or the environment's
            signed addresses are none.
    """
    return Listing([_file(file) for file in source.files], {"url": shown(source.files[0].url)})


def _file(file: HttpsFile) -> RemoteFile:
    name = file.name or unquote(urlsplit(file.url).path).rpartition("/")[2]
    if not name:
        raise InputError(f"{shown(file.url)}: the address ends in no file name; set name")
    places = [signed_place(url) for url in (file.url, *file.mirrors)]
    return RemoteFile(
        path=name,
        url=shown(file.url),
        places=lambda: places,
        size=file.size,
        sha256=file.sha256,
    )
