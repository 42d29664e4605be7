"""The store on S3, or on anything that speaks its protocol.

The endpoint and the credentials come from boto3's own environment variables and files
(``AWS_ENDPOINT_URL_S3``, ``AWS_ACCESS_KEY_ID``, …). Clones that refuse the default checksums of
boto3 ≥ 1.36 want ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required``.
"""

import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from omnistage.errors import DamagedError, InputError, machine_errors
from omnistage.files import locked
from omnistage.store.digest import check_files, hash_files
from omnistage.store.layout import CONTENT, DONE, MANIFEST, Progress, record_manifest, scratch_root
from omnistage.store.manifest import Kind, Manifest, content_digest

if TYPE_CHECKING:
    pass
from omnistage.store.s3_client import client, s3_errors, split

_TRANSFER = TransferConfig(multipart_chunksize=16 * 1024 * 1024, max_concurrency=8)


class S3Store:
    """A store under a prefix of a bucket.

    Args:
        uri: ``s3://bucket/prefix``.
    """

    def __init__(self, uri: str) -> None:
        self.bucket, self.prefix = split(uri)

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def scratch(self) -> Path:
        """``OMNISTAGE_SCRATCH``, or a folder of the machine's temporary folder."""
        return scratch_root(Path(tempfile.gettempdir()) / "omnistage")

    def find(self, stage: str, key: str) -> Manifest | None:
        """Return the artifact when its marker, manifest and every object's size are right.

        The bytes are hashed when :meth:`local` fetches them.

        Raises:
            DamagedError: If it is there but not whole.
        """
        home = self._home(stage, key)
        with s3_errors(f"reading {self.uri}"):
            if self._get(f"{home}/{DONE}") is None:
                return None
            data = self._get(f"{home}/{MANIFEST}")
            if data is None:
                raise DamagedError(f"{self.uri}/{stage}/{key}: {MANIFEST} is missing")
            try:
                manifest = Manifest.from_json(data, f"{self.uri}/{stage}/{key}/{MANIFEST}")
            except InputError as e:
                raise DamagedError(str(e)) from e
            if content_digest(manifest.files) != manifest.digest:
                raise DamagedError(f"{manifest.uri}: the digest is not that of its files")
            prefix = split(manifest.uri)[1] + "/"
            sizes = dict(self._list(prefix))
        for entry in manifest.files:
            size = sizes.get(prefix + entry.path)
            if size != entry.size:
                have = "missing" if size is None else f"{size} bytes, not {entry.size}"
                raise DamagedError(f"{manifest.uri}/{entry.path}: {have}")
        return manifest

    def discard(self, stage: str, key: str) -> None:
        """Remove an artifact, the marker first."""
        home = self._home(stage, key)
        with s3_errors(f"removing {self.uri}/{stage}/{key}"):
            client().delete_object(Bucket=self.bucket, Key=f"{home}/{DONE}")
            self._delete([name for name, _ in self._list(home + "/")])

    def commit(self, folder: Path, kind: Kind, stage: str, key: str, **fields: Any) -> Manifest:
        """Upload the files, then the manifest, then the marker.

        Each attempt has a content folder of its own, so two writers never mix their files; the
        marker is written on the condition that there is none, and the one who comes second takes
        the artifact of the first.
        """
        home = self._home(stage, key)
        content = f"{CONTENT}/{uuid.uuid4().hex[:12]}"
        files = hash_files(folder)
        manifest = record_manifest(
            f"{self.uri}/{stage}/{key}/{content}", files, kind, stage, key, **fields
        )
        with s3_errors(f"writing {manifest.uri}"):
            for entry in files:
                client().upload_file(
                    str(folder / entry.path),
                    self.bucket,
                    f"{home}/{content}/{entry.path}",
                    Config=_TRANSFER,
                )
            try:
                self._put(f"{home}/{MANIFEST}", manifest.to_json(), IfNoneMatch="*")
            except ClientError as e:
                if e.response.get("Error", {}).get("Code") != "PreconditionFailed":
                    raise
                first = self.find(stage, key)
                if first is not None:
                    for entry in files:
                        client().delete_object(
                            Bucket=self.bucket, Key=f"{home}/{content}/{entry.path}"
                        )
                    return first
                self._put(f"{home}/{MANIFEST}", manifest.to_json())
            self._put(f"{home}/{DONE}", manifest.digest.encode())
        shutil.rmtree(folder)
        return manifest

    def local(self, manifest: Manifest, progress: Progress | None = None) -> Path:
        """Fetch the artifact into the scratch folder once, verified, and return it there.

        Args:
            manifest: Of the artifact.
            progress: Told the bytes fetched, and those in all.

        Raises:
            DamagedError: If the bytes fetched are not those of the manifest.
        """
        final = self.scratch / "artifacts" / manifest.digest.removeprefix("sha256:")[:32]
        with machine_errors(f"fetching {manifest.uri}"), locked(final.with_suffix(".lock")):
            if final.is_dir():
                return final
            part = final.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            bucket, prefix = split(manifest.uri)
            fetched, counting = 0, threading.Lock()

            def count(more: int) -> None:  # called by the threads of one transfer
                nonlocal fetched
                with counting:
                    fetched += more
                    if progress:
                        progress(fetched, manifest.size)

            with s3_errors(f"fetching {manifest.uri}"):
                for entry in manifest.files:
                    target = part / entry.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    client().download_file(
                        bucket,
                        f"{prefix}/{entry.path}",
                        str(target),
                        Config=_TRANSFER,
                        Callback=count,
                    )
            check_files(part, manifest.files, manifest.uri)
            part.rename(final)
        return final

    def work_folder(self, stage: str, key: str) -> Path:
        """Return a node-local folder."""
        folder = self.scratch / "work" / stage / key
        with machine_errors("writing the scratch folder"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def lock(self, stage: str, key: str) -> Iterator[None]:
        """Hold a node-local lock; between nodes the conditional commit decides."""
        with locked(self.scratch / "locks" / f"{stage}.{key}", f"{stage} {key}"):
            yield

    def save_work(self, stage: str, key: str, name: str, source: Path) -> None:
        """Upload the file to ``<stage>/.<key>.saved/<name>``."""
        with s3_errors(f"writing {self.uri}"):
            client().upload_file(
                str(source), self.bucket, self._saved(stage, key) + name, Config=_TRANSFER
            )

    def list_work(self, stage: str, key: str) -> list[str]:
        """Return the kept objects' names below their prefix."""
        prefix = self._saved(stage, key)
        with s3_errors(f"reading {self.uri}"):
            return [name.removeprefix(prefix) for name, _ in self._list(prefix)]

    def fetch_work(self, stage: str, key: str, name: str, target: Path) -> None:
        """Download a kept object."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with s3_errors(f"reading {self.uri}"):
            client().download_file(
                self.bucket, self._saved(stage, key) + name, str(target), Config=_TRANSFER
            )

    def drop_work(self, stage: str, key: str, prefix: str = "") -> None:
        """Remove kept objects."""
        with s3_errors(f"removing from {self.uri}"):
            self._delete([n for n, _ in self._list(self._saved(stage, key) + prefix)])

    def _saved(self, stage: str, key: str) -> str:
        return self._home(stage, f".{key}.saved") + "/"

    def _delete(self, names: list[str]) -> None:
        for start in range(0, len(names), 1000):
            objects = [{"Key": n} for n in names[start : start + 1000]]
            client().delete_objects(Bucket=self.bucket, Delete={"Objects": objects})  # pyright: ignore[reportArgumentType]

    def _home(self, stage: str, key: str) -> str:
        return "/".join(p for p in (self.prefix, stage, key) if p)

    def _get(self, name: str) -> bytes | None:
        try:
            return client().get_object(Bucket=self.bucket, Key=name)["Body"].read()
        except ClientError as e:
            if e.response.get("Error", {}).get("Code") == "NoSuchKey":
                return None
            raise

    def _put(self, name: str, data: bytes, **condition: Any) -> None:
        client().put_object(Bucket=self.bucket, Key=name, Body=data, **condition)

    def _list(self, prefix: str) -> Iterator[tuple[str, int]]:
        pages = client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                yield item.get("Key", ""), item.get("Size", -1)
