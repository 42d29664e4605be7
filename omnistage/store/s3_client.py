"""boto3's S3 client as omnistage uses it, and its errors as ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import boto3
from boto3.exceptions import RetriesExceededError, S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError

from omnistage.errors import InputError, OmnistageError, TransientError
from omnistage.store.uris import NAMESPACE_VARIABLE, SECRET_VARIABLE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_RETRIES = 10
_SETTINGS = (
    ConfigNotFound,
    InvalidRegionError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
_TRANSIENT = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "XAmzContentSHA256Mismatch",
}
"""Codes that come with a status of 4xx although the same request may succeed the next time."""


@cache
def client() -> "S3Client":
    """Return this process's S3 client: standard retries, ten of them."""
    # boto3 reads AWS_DEFAULT_REGION alone; AWS_REGION is what other programs, and clusters, set.
    region = os.environ.get("AWS_REGION") or None
    retries = Config(retries={"mode": "standard", "max_attempts": _RETRIES})
    return boto3.client("s3", region_name=region, config=retries)


def split(uri: str) -> tuple[str, str]:
    """Return bucket and key of an ``s3://`` URI; the key may hold any character.

    Raises:
        InputError: If it has no bucket.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise InputError(f"{uri!r}: expected s3://bucket/prefix")
    return bucket, key.strip("/")


def error_code(error: ClientError) -> str:
    """Return the code in S3's answer, such as ``NoSuchKey``."""
    return error.response.get("Error", {}).get("Code", "")


@contextmanager
def s3_errors(what: str) -> Iterator[None]:
    """Turn boto3's errors into ours.

    Args:
        what: What was being done, for the message.

    Raises:
        InputError: If the same request can never succeed: 403, 404, no credentials.
        TransientError: If it may succeed the next time: 5xx, a lost connection, a body cut short,
            a clock that is off.
    """
    try:
        yield
    except OmnistageError:
        raise
    except (BotoCoreError, ClientError, S3UploadFailedError, RetriesExceededError) as e:
        raise _ours(what, e) from e
    except ResponseParserError as e:
        raise TransientError(f"{what}: the answer is not S3's: {_first_line(e)}") from e


def _ours(what: str, error: Exception) -> OmnistageError:
    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, ClientError):
        error = error.__context__
    if isinstance(error, NoCredentialsError):
        return InputError(f"{what}: no S3 credentials; {_credentials_advice()}")
    if isinstance(error, ClientError):
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = error_code(error)
        final = 400 <= status < 500 and status not in (408, 429) and code not in _TRANSIENT
        clock = "; is this machine's clock right?" if code == "RequestTimeTooSkewed" else ""
        text = f"{what}: S3 answered {status} {code}{clock}"
        return InputError(text) if final else TransientError(text)
    kind = InputError if isinstance(error, _SETTINGS) else TransientError
    return kind(f"{what}: {_first_line(error)}")


def _credentials_advice() -> str:
    secret, namespace = os.environ.get(SECRET_VARIABLE), os.environ.get(NAMESPACE_VARIABLE)
    if not secret:
        return "set AWS_ACCESS_KEY_ID or a profile"
    where = f" of namespace {namespace}" if namespace else ""
    return (
        f"this pod takes them from the Secret {secret}{where}, keys AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY: make it, or name another one (cluster.store_secret)"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
