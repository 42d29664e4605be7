"""URIs of stores, artifacts and manifests."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from omnistage.errors import InputError
from omnistage.files import one_line
from omnistage.store.layout import MANIFEST
from omnistage.store.manifest import Manifest

SECRET_VARIABLE = "OMNISTAGE_CREDENTIALS_FROM"
"""Names, in a pod, the Secret that the store's credentials come from: for messages."""
NAMESPACE_VARIABLE = "OMNISTAGE_NAMESPACE"
"""Names, in a pod, its namespace: for messages."""


def uri_path(uri: str) -> Path:
    """Return the folder of a ``file://`` URI or of a plain path.

    Raises:
        InputError: For any other scheme, or if it is no URI.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as e:
        raise InputError(f"{one_line(uri)!r}: not a URI: {e}") from e
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme:
        raise InputError(f"store {one_line(uri)!r}: expected a folder, file:// or s3://")
    return Path(uri)


def manifest_uri(manifest: Manifest) -> str:
    """Return the URI of the manifest file itself."""
    return f"{store_uri(manifest)}/{manifest.stage}/{manifest.key}/{MANIFEST}"


def store_uri(manifest: Manifest) -> str:
    """Return the URI of the store that holds an artifact."""
    return manifest.uri.rpartition(f"/{manifest.stage}/{manifest.key}/")[0]
