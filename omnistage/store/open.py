"""Open a store or a manifest by its URI."""

from pathlib import PurePosixPath

from omnistage.errors import DamagedError, InputError
from omnistage.store.folder import FolderStore
from omnistage.store.layout import CONTENT, MANIFEST, Store, relocated
from omnistage.store.manifest import Manifest
from omnistage.store.uris import manifest_uri, uri_path

_LARGEST = 1 << 28
"""Bytes of a manifest: one of a million files has about 150 MB."""


def open_store(uri: str) -> Store:
    """Open a store by its URI.

    Args:
        uri: ``s3://bucket/prefix``, ``file:///folder`` or a plain folder.

    Raises:
        InputError: For any other scheme.
    """
    if uri.startswith("s3://"):
        # boto3 takes half a second to import, and most stores are folders.
        from omnistage.store.s3 import S3Store

        return S3Store(uri)
    return FolderStore(uri_path(uri))


def read_manifest(uri: str) -> Manifest:
    """Read a manifest by the URI of its file, from a folder or from S3.

    One that lies in a store names the content beside it, also when the store has been moved or is
    mounted elsewhere since it was written.

    Raises:
        InputError: If there is none, it is not one, or its content is in another kind of store.
    """
    manifest = Manifest.from_json(_read(uri), uri)
    remote = uri.startswith("s3://")
    home = uri.rpartition("/")[0] if remote else uri_path(uri).absolute().parent.as_uri()
    in_store = PurePosixPath(home).parts[-2:] == (manifest.stage, manifest.key)
    if (
        in_store
        and uri.endswith(f"/{MANIFEST}")
        and (remote or (uri_path(home) / CONTENT).is_dir())
    ):
        try:
            return relocated(manifest, home)
        except DamagedError as e:
            raise InputError(str(e)) from e
    if manifest.uri.startswith("s3://") != remote:
        raise InputError(f"{uri}: its content is elsewhere, at {manifest.uri}")
    return manifest


def read_artifact_file(manifest: Manifest, path: str) -> bytes:
    """Return one small file of an artifact, without fetching the others.

    Raises:
        InputError: If the artifact has no such file.
    """
    uri = f"{manifest.uri}/{path}"
    if uri.startswith("s3://"):
        from omnistage.store import objects  # boto3, as above

        data = objects.read(uri)
        if data is None:
            raise InputError(f"{uri}: no such file")
        return data
    try:
        return uri_path(uri).read_bytes()
    except FileNotFoundError as e:
        raise InputError(f"{uri}: no such file") from e


def made_anew(manifest: Manifest) -> bool:
    """Whether a forced run has put other files in the place of an artifact that is being read.

    A folder's files are read where they are, so that a reader may have seen some of each. Files of
    a bucket are read from a verified copy.
    """
    if manifest.uri.startswith("s3://"):
        return False
    try:
        return read_manifest(manifest_uri(manifest)).digest != manifest.digest
    except InputError:
        return False  # removed: what is open stays readable, and nothing else has its place


def _read(uri: str) -> bytes:
    if uri.startswith("s3://"):
        from omnistage.store import objects  # boto3, as above

        data = objects.read(uri, _LARGEST)
        if data is None:
            raise InputError(f"{uri}: no such manifest")
        return data
    path = uri_path(uri)
    if not path.is_file():
        raise InputError(f"{uri}: no such manifest")
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{uri}: not a manifest: larger than {_LARGEST} bytes")
    return path.read_bytes()
