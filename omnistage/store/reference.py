"""References: how the manifest of an artifact names another one that it was made from."""

import re

from omnistage.errors import InputError
from omnistage.store.layout import MANIFEST
from omnistage.store.manifest import NAME, Manifest
from omnistage.store.open import read_manifest
from omnistage.store.uris import manifest_uri, store_uri

_FIELDS = ("kind", "stage", "key", "digest", "manifest")


def reference(manifest: Manifest) -> dict[str, str]:
    """Return what names an artifact in another one's metadata."""
    return {
        "kind": manifest.kind,
        "stage": manifest.stage,
        "key": manifest.key,
        "digest": manifest.digest,
        "manifest": manifest_uri(manifest),
    }


def referred(told: object, by: Manifest) -> Manifest:
    """Return the manifest that a reference names.

    It is looked for in the store of the artifact that refers to it, which may have been moved
    since, then where it was.

    Args:
        told: The reference.
        by: The artifact that refers to it.

    Raises:
        InputError: If it is none, is in neither place, or is not the same any more.
    """
    if not isinstance(told, dict) or not all(isinstance(told.get(f), str) for f in _FIELDS):
        raise InputError(f"{manifest_uri(by)}: it does not say what it was made from")
    if not all(re.fullmatch(NAME, told[field]) for field in ("stage", "key")):
        raise InputError(f"{manifest_uri(by)}: a stage or key it was made from is not a name")
    beside = f"{store_uri(by)}/{told['stage']}/{told['key']}/{MANIFEST}"
    for uri in dict.fromkeys((beside, told["manifest"])):
        try:
            found = read_manifest(uri)
        except InputError:
            continue
        if found.digest == told["digest"]:
            return found
    raise InputError(
        f"{manifest_uri(by)}: it was made from {told['stage']} {told['key']}, which is no longer "
        f"in the store ({beside}); run the steps before it again"
    )
