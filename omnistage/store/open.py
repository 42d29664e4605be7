"""Open a store or a manifest by its URI."""

from urllib.parse import urlsplit

from omnistage.errors import InputError
from omnistage.store.folder import FolderStore
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.store.uris import uri_path


def open_store(uri: str) -> Store:
    """Open a store by its URI.

    Args:
        uri: ``s3://bucket/prefix``, ``file:///folder`` or a plain folder.

    Raises:
        InputError: For any other scheme.
    """
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        from omnistage.store.s3 import S3Store

        return S3Store(uri)
    return FolderStore(uri_path(uri))


def read_manifest(uri: str) -> Manifest:
    """Read a manifest by the URI of its file, from a folder or from S3.

    Raises:
        InputError: If there is none or it is not one.
    """
    if uri.startswith("s3://"):
        from omnistage.store.s3_client import read_bytes

        return Manifest.from_json(read_bytes(uri), uri)
    path = uri_path(uri)
    if not path.is_file():
        raise InputError(f"{uri}: no such manifest")
    return Manifest.from_json(path.read_bytes(), uri)
