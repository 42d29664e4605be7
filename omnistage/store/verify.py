"""Check a stored artifact again: its place, marker and digest, and every file's bytes."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.store.digest import file_problem, unlisted
from omnistage.store.layout import CONTENT, DONE, MANIFEST
from omnistage.store.manifest import FileEntry, Manifest, content_digest
from omnistage.store.open import read_manifest
from omnistage.store.uris import uri_path

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
    home = None if uri.startswith("s3://") else uri_path(uri).absolute().parent
    if home and (home / CONTENT).is_dir():  # else a manifest's copy; its artifact is elsewhere
        manifest = manifest.model_copy(update={"uri": (home / CONTENT).as_uri()})
        problems += _misplaced(home, manifest)
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


def _misplaced(home: Path, manifest: Manifest) -> list[str]:
    """Compare a manifest in a folder store with its place and its marker."""
    problems = []
    if (home.parent.name, home.name) != (manifest.stage, manifest.key):
        problems.append(f"manifest.json: of {manifest.stage} {manifest.key}, in the wrong place")
    if not (home / DONE).is_file():
        problems.append(f"{DONE}: the marker is missing, the artifact counts as incomplete")
    elif (home / DONE).read_text().strip() != manifest.digest:
        problems.append(f"{DONE}: the marker of another artifact")
    return problems


def _check(manifest: Manifest, entry: FileEntry) -> str | None:
    if not manifest.uri.startswith("s3://"):
        return file_problem(uri_path(manifest.uri) / entry.path, entry)
    from omnistage.store import objects  # boto3 takes half a second; most stores are folders

    sha256, size = hashlib.sha256(), 0
    try:
        for chunk in objects.chunks(f"{manifest.uri}/{entry.path}"):
            sha256.update(chunk)
            size += len(chunk)
    except FileNotFoundError:
        return "missing"
    if size != entry.size:
        return f"{size} bytes, the manifest says {entry.size}"
    if sha256.hexdigest() != entry.sha256:
        return f"its bytes changed: sha256 {sha256.hexdigest()}, the manifest says {entry.sha256}"
    return None


def _extra(manifest: Manifest) -> Iterator[str]:
    """Yield what lies beside an artifact's files and is not in its manifest."""
    if not manifest.uri.startswith("s3://"):
        folder = uri_path(manifest.uri)
        if not folder.is_dir():
            raise InputError(f"{manifest.uri}: no such folder")
        yield from unlisted(folder, manifest)
        return
    from omnistage.store import objects  # boto3, as above

    listed, prefix = {entry.path for entry in manifest.files}, f"{manifest.uri}/"
    for found in objects.list_below(prefix):
        if found.uri.removeprefix(prefix) not in listed:
            yield f"{found.uri.removeprefix(prefix)}: not in the manifest"
