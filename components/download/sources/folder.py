"""Files of a folder."""

from pathlib import Path

from components.download.config import FolderSource
from components.download.fingerprint import folder_files, folder_fingerprint
from components.download.transfer.remote_file import Listing, Place, RemoteFile
from omnistage.errors import InputError


def list_folder(source: FolderSource) -> Listing:
    """Return the folder's matching files.

    Raises:
        InputError: If it is not there, is empty, or is not as it was when the recipe was resolved.
    """
    if source.fingerprint and source.fingerprint != folder_fingerprint(
        source.path, source.patterns
    ):
        raise InputError(
            f"folder source {source.path}: it changed since the recipe was resolved; run it again"
        )
    root = Path(source.path).expanduser().absolute()
    files = []
    for path, state in folder_files(source.path, source.patterns):
        place = Place(path=root / path)
        files.append(
            RemoteFile(
                path=path,
                url=str(root / path),
                places=lambda place=place: [place],
                size=state.st_size,
                version=f"{state.st_size} {state.st_mtime_ns}",
            )
        )
    return Listing(files, {"path": source.path})
