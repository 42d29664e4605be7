"""Check a stored artifact again: every file's presence, size and sha256."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, cast

from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.store.layout import CONTENT, DONE, MANIFEST
from omnistage.store.manifest import FileEntry, Manifest, content_digest
from omnistage.store.open import read_manifest
from omnistage.store.uris import uri_path

_CHUNK = 1 << 20
_THREADS = 8  # hashing lets go of the interpreter's lock; S3 waits most of the time


def verify(uri: str, events: Events | None = None) -> list[str]:
    """Return what is wrong with an artifact; nothing when it is as it was stored.

    Args:
        uri: Of its manifest file, or of its folder in the store: ``file://``, ``s3://`` or a path.
        events: Where progress in bytes goes.

    Raises:
        InputError: If there is no manifest, or it may not be read.
        TransientError: If S3 does not answer.
    """
    uri = uri if uri.endswith(".json") else f"{uri.rstrip('/')}/{MANIFEST}"
    manifest = read_manifest(uri)
    problems = []
    if not uri.startswith("s3://"):
        home = uri_path(uri).absolute().parent
        if (home / CONTENT).is_dir():  # where it lies now, should the store have been moved
            manifest = manifest.model_copy(update={"uri": (home / CONTENT).as_uri()})
            if not (home / DONE).is_file():
                problems.append(f"{DONE}: the marker is missing, the artifact counts as incomplete")
    if content_digest(manifest.files) != manifest.digest:
        problems.append("manifest.json: its digest is not that of the files it lists")
    done = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        checks = pool.map(lambda entry: _check(manifest, entry), manifest.files)
        for entry, problem in zip(manifest.files, checks, strict=True):
            done += entry.size
            if events:
                events.progress(done, manifest.size, unit="bytes verified")
            if problem:
                problems.append(f"{entry.path}: {problem}")
    return [*problems, *_extra(manifest)]


def _check(manifest: Manifest, entry: FileEntry) -> str | None:
    try:
        sha256, size = hashlib.sha256(), 0
        for chunk in _chunks(manifest.uri, entry.path):
            sha256.update(chunk)
            size += len(chunk)
    except FileNotFoundError:
        return "missing"
    if size != entry.size:
        return f"{size} bytes, the manifest says {entry.size}"
    if sha256.hexdigest() != entry.sha256:
        return f"its bytes changed: sha256 {sha256.hexdigest()}, the manifest says {entry.sha256}"
    return None


def _chunks(folder: str, path: str) -> Iterator[bytes]:
    if folder.startswith("s3://"):
        yield from _object_chunks(f"{folder}/{path}")
        return
    with (uri_path(folder) / path).open("rb") as f:
        yield from iter(lambda: f.read(_CHUNK), b"")


def _object_chunks(uri: str) -> Iterator[bytes]:
    # Imported here: boto3 takes half a second, and most stores are folders.
    from botocore.exceptions import ClientError

    from omnistage.store.s3_client import client, s3_errors, split

    bucket, key = split(uri)
    with s3_errors(uri):
        try:
            body = client().get_object(Bucket=bucket, Key=key)["Body"]
        except ClientError as e:
            if e.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                raise FileNotFoundError(uri) from e
            raise
        yield from iter(lambda: cast(BinaryIO, body).read(_CHUNK), b"")


def _extra(manifest: Manifest) -> list[str]:
    """Return files of a folder store that the manifest does not list."""
    if manifest.uri.startswith("s3://"):
        return []
    folder = uri_path(manifest.uri)
    listed = {entry.path for entry in manifest.files}
    if not folder.is_dir():
        raise InputError(f"{manifest.uri}: no such folder")
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return [f"{path}: not in the manifest" for path in found if path not in listed]
