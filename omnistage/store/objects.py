"""Objects in S3 by their URI: read, write, list, delete.

Every function raises :class:`InputError` where the same request can never succeed and
:class:`TransientError` where it may succeed the next time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from omnistage.errors import InputError, TransientError
from omnistage.store.s3_client import client, error_code, s3_errors, split

_TRANSFER = TransferConfig(multipart_chunksize=16 * 1024 * 1024, max_concurrency=8)
_CHUNK = 1 << 20
_MISSING = {"NoSuchKey", "404"}
_UNCONDITIONAL = {"NotImplemented", "InvalidArgument", "InvalidRequest", "501"}
"""How endpoints without conditional writes refuse the header."""
_NOT_S3 = "the answer is not S3's; is a proxy in between?"


@dataclass(frozen=True)
class Object:
    """One object of a listing."""

    uri: str
    size: int
    """Bytes."""
    modified: float
    """Unix time."""
    tag: str = ""
    """Entity tag."""


def read(uri: str, largest: int | None = None) -> bytes | None:
    """Return the bytes of a small object, or None where there is none.

    Args:
        uri: Of the object.
        largest: Bytes it may have.
    """
    found = read_tagged(uri, largest)
    return found and found[0]


def read_tagged(uri: str, largest: int | None = None) -> tuple[bytes, str] | None:
    """Return the bytes of a small object and its entity tag, or None where there is none."""
    bucket, key = split(uri)
    with s3_errors(f"reading {uri}"):
        try:
            answer = client().get_object(Bucket=bucket, Key=key)
        except ClientError as e:
            if error_code(e) in _MISSING:
                return None
            raise
        if largest is not None and answer["ContentLength"] > largest:
            raise InputError(f"{uri}: larger than {largest} bytes")
        return answer["Body"].read(), _tag(uri, answer)


def _tag(uri: str, answer: Mapping[str, Any]) -> str:
    """Return the entity tag that S3 gives with every object, and the page of a proxy does not."""
    if "ETag" not in answer:
        raise TransientError(f"{uri}: {_NOT_S3}")
    return answer["ETag"]


def chunks(uri: str) -> Iterator[bytes]:
    """Yield the bytes of an object.

    Raises:
        FileNotFoundError: If there is none.
    """
    bucket, key = split(uri)
    with s3_errors(f"reading {uri}"):
        try:
            body = client().get_object(Bucket=bucket, Key=key)["Body"]
        except ClientError as e:
            if error_code(e) in _MISSING:
                raise FileNotFoundError(uri) from e
            raise
        yield from body.iter_chunks(_CHUNK)


def write(uri: str, data: bytes) -> None:
    """Write an object, over one that is there."""
    bucket, key = split(uri)
    with s3_errors(f"writing {uri}"):
        _tag(uri, client().put_object(Bucket=bucket, Key=key, Body=data))


def create(uri: str, data: bytes) -> bool:
    """Write an object unless there is one; return whether it was written.

    Of several writers one succeeds. On an endpoint without conditional writes the object is looked
    for first, and two writers in the same moment may both succeed.
    """
    bucket, key = split(uri)
    with s3_errors(f"writing {uri}"):
        try:
            _tag(uri, client().put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*"))
        except ClientError as e:
            if error_code(e) in ("PreconditionFailed", "412"):
                return False
            if error_code(e) not in _UNCONDITIONAL:
                raise
            if read(uri) is not None:
                return False
            write(uri, data)
    return True


def delete_version(uri: str, tag: str) -> bool:
    """Delete an object if its entity tag is still this one; return whether it is gone.

    On an endpoint without conditional deletes it is deleted whatever its tag.
    """
    bucket, key = split(uri)
    with s3_errors(f"removing {uri}"):
        try:
            client().delete_object(Bucket=bucket, Key=key, IfMatch=tag)
        except ClientError as e:
            if error_code(e) in ("PreconditionFailed", "412"):
                return False
            if error_code(e) in _MISSING:
                return True
            if error_code(e) not in _UNCONDITIONAL:
                raise
            client().delete_object(Bucket=bucket, Key=key)
    return True


def list_below(uri: str) -> Iterator[Object]:
    """Yield the objects whose URIs begin with ``uri``, in the order of their names."""
    bucket, key = split(uri)
    prefix = f"{key}/" if uri.endswith("/") and key else key
    with s3_errors(f"listing {uri}"):
        pages = client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            if not {"Contents", "KeyCount", "Name"} & page.keys():
                raise TransientError(f"listing {uri}: {_NOT_S3}")
            for item in page.get("Contents", []):
                yield Object(
                    f"s3://{bucket}/{item.get('Key', '')}",
                    item.get("Size", -1),
                    item["LastModified"].timestamp() if "LastModified" in item else 0.0,
                    item.get("ETag", ""),
                )


def delete(uris: list[str]) -> None:
    """Delete objects of one bucket; one that is not there counts as deleted."""
    for start in range(0, len(uris), 1000):
        places = [split(uri) for uri in uris[start : start + 1000]]
        with s3_errors(f"removing {uris[start]}"):
            done = client().delete_objects(
                Bucket=places[0][0], Delete={"Objects": [{"Key": key} for _, key in places]}
            )
        for error in done.get("Errors", []):
            text = f"removing {error.get('Key')}: S3 answered {error.get('Code')}"
            raise (InputError if error.get("Code") == "AccessDenied" else TransientError)(text)


def upload(path: Path, uri: str, callback: Any = None) -> None:
    """Upload a file, a large one in parts; the object appears whole.

    Args:
        path: The file.
        uri: Of the object.
        callback: Called with the bytes of each part, from several threads.
    """
    bucket, key = split(uri)
    with s3_errors(f"writing {uri}"):
        client().upload_file(str(path), bucket, key, Config=_TRANSFER, Callback=callback)


def download(uri: str, path: Path, callback: Any = None) -> None:
    """Download an object to a file, a large one in parts.

    Args:
        uri: Of the object.
        path: The file.
        callback: Called with the bytes of each part, from several threads.

    Raises:
        FileNotFoundError: If there is no such object.
    """
    bucket, key = split(uri)
    with s3_errors(f"fetching {uri}"):
        try:
            client().download_file(bucket, key, str(path), Config=_TRANSFER, Callback=callback)
        except ClientError as e:
            if error_code(e) in _MISSING:
                raise FileNotFoundError(uri) from e
            raise
