"""boto3's S3 client as omnistage uses it, and its errors as ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from omnistage.errors import InputError, TransientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@cache
def client() -> "S3Client":
    """Return this process's S3 client: standard retries, ten tries."""
    # boto3 reads AWS_DEFAULT_REGION alone; AWS_REGION is what other programs, and clusters, set.
    region = os.environ.get("AWS_REGION") or None
    retries = Config(retries={"mode": "standard", "max_attempts": 10})
    return boto3.client("s3", region_name=region, config=retries)


def split(uri: str) -> tuple[str, str]:
    """Return bucket and key of an ``s3://`` URI.

    Raises:
        InputError: If it has no bucket.
    """
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise InputError(f"{uri!r}: expected s3://bucket/prefix")
    return parts.netloc, parts.path.strip("/")


@contextmanager
def s3_errors(what: str) -> Iterator[None]:
    """Turn boto3's errors into one of ours: wrong (403, 404, no credentials) or passing.

    Raises:
        InputError: If the request can never succeed as it is.
        TransientError: If it may the next time.
    """
    try:
        yield
    except NoCredentialsError as e:
        raise InputError(f"{what}: no S3 credentials; set AWS_ACCESS_KEY_ID or a profile") from e
    except ClientError as e:
        status = int(e.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = e.response.get("Error", {}).get("Code", "")
        if 400 <= status < 500 and status not in (408, 429):
            raise InputError(f"{what}: S3 answered {status} {code}") from e
        raise TransientError(f"{what}: S3 answered {status} {code}") from e
    except BotoCoreError as e:
        raise TransientError(f"{what}: {e}") from e


def read_bytes(uri: str) -> bytes:
    """Return the bytes of one small object.

    Raises:
        InputError: If it is not there or may not be read.
    """
    bucket, key = split(uri)
    with s3_errors(uri):
        return client().get_object(Bucket=bucket, Key=key)["Body"].read()
