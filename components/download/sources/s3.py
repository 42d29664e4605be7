"""Objects of a bucket: listed by boto3, fetched in ranges from addresses that it signs."""

import base64
from typing import Any

from components.download.config import S3Source
from components.download.transfer.remote_file import Listing, Place, RemoteFile
from omnistage.errors import InputError, TransientError
from omnistage.store.s3_client import client, s3_errors, split

_SIGNED_FOR = 3600  # seconds; each try signs anew


def list_s3(source: S3Source) -> Listing:
    """Return the objects below a prefix, or the one object that the URI names.

    Raises:
        InputError: If they are not there or may not be read.
        TransientError: If the endpoint does not answer.
    """
    from huggingface_hub.utils import filter_repo_objects

    bucket, prefix = split(source.uri)
    try:
        with s3_errors(f"source {source.uri}"):
            objects = _objects(bucket, prefix)
            if not objects:
                raise InputError(f"source {source.uri}: nothing is there")
            chosen = filter_repo_objects(
                objects,
                allow_patterns=source.allow_patterns or None,
                ignore_patterns=source.ignore_patterns or None,
                key=lambda o: o["path"],
            )
            files = [_file(bucket, o) for o in chosen]
    except TransientError as e:
        raise TransientError(str(e)) from e
    return Listing(files, {"uri": source.uri})


def _objects(bucket: str, prefix: str) -> list[dict[str, Any]]:
    pages = client().get_paginator("list_objects_v2")
    found = []
    for page in pages.paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            key = item.get("Key", "")
            if key == prefix:
                path = key.rpartition("/")[2]
            elif not prefix or key.startswith(prefix + "/"):
                path = key[len(prefix) + 1 :] if prefix else key
            else:
                continue  # "data" is a prefix of "data2/x" too
            if not key.endswith("/"):
                found.append(
                    {"path": path, "key": key, "size": item["Size"], "etag": item["ETag"]}  # pyright: ignore[reportTypedDictNotRequiredAccess]
                )
    return found


def _file(bucket: str, item: dict[str, Any]) -> RemoteFile:
    key = item["key"]

    def places() -> list[Place]:
        url = client().generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=_SIGNED_FOR
        )
        return [Place(url)]

    return RemoteFile(
        path=item["path"],
        url=f"s3://{bucket}/{key}",
        places=places,
        size=item["size"],
        sha256=_stated_sha256(bucket, key),
        version=item["etag"],
        etag=item["etag"],
    )


def _stated_sha256(bucket: str, key: str) -> str | None:
    """Return the sha256 that the object was uploaded with, if it is that of the whole object."""
    head = client().head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    checksum = head.get("ChecksumSHA256")
    if not checksum or "-" in checksum or head.get("ChecksumType") == "COMPOSITE":
        return None
    return base64.b64decode(checksum).hex()
