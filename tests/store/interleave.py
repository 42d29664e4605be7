# ruff: noqa: N803 - arguments have the names of boto3
"""Runs several actors of one process a step at a time, and kills them between any two steps.

An actor is a thread that stops before each operation on the disk or in the bucket until it is told
to go on. A killed one does nothing more: its cleaning up does not happen, and the kernel drops its
locks.
"""

import builtins
import errno
import fcntl
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from botocore.exceptions import ClientError, ConnectionClosedError

_HERE = threading.local()
_DISK = ("rename", "replace", "mkdir", "unlink", "rmdir", "open", "fsync", "scandir")


class KilledError(BaseException):
    """Raised in an actor that was killed, at the operation that it does not do any more."""


class Actor:
    """Does something in a thread, a step at a time.

    Args:
        act: What it does; its result or exception is kept.
        scratch: The disk of its node.
    """

    def __init__(self, act: Callable[[], Any], scratch: Path) -> None:
        self.scratch = scratch
        self.done = self.killed = False
        self.fault = ""
        """What happens at its next operation: ``"before"`` or ``"after"`` it, or nothing."""
        self.result: Any = None
        self.error: BaseException | None = None
        self._act = act
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._main, daemon=True).start()

    def _main(self) -> None:
        self._go.acquire()
        _HERE.actor = self
        try:
            self.result = self._act()
        except BaseException as e:
            self.error = e
        self.done = True
        self._stopped.release()

    def point(self) -> None:
        """Wait until told to go on; called by the actor before each operation."""
        if not self.killed:
            self._stopped.release()
            self._go.acquire()
        if self.killed:
            raise KilledError

    def step(self, count: int = 1) -> None:
        """Let it do some operations."""
        for _ in range(count):
            if not self.done:
                self._go.release()
                self._stopped.acquire()

    def kill(self) -> None:
        """End it before its next operation."""
        self.killed = True
        self.step()
        assert self.done


def current() -> Actor | None:
    """Return the actor that this thread is, if any."""
    return getattr(_HERE, "actor", None)


def _stepped(real: Callable[..., Any]) -> Callable[..., Any]:
    def act(*given: Any, **named: Any) -> Any:
        actor = current()
        if actor:
            actor.point()
            fault, actor.fault = actor.fault, ""
            if fault == "before":
                raise OSError(errno.ENOSPC, "No space left on device")
            if fault == "after":  # the answer of a shared disk's server is lost
                real(*given, **named)
                raise OSError(errno.ETIMEDOUT, "Connection timed out")
        return real(*given, **named)

    return act


def _flock(handle: Any, operation: int) -> None:
    """Wait for a lock in steps, so that the others go on meanwhile."""
    actor = current()
    while True:
        try:
            return _REAL_FLOCK(handle, operation | (fcntl.LOCK_NB if actor else 0))
        except BlockingIOError:
            if operation & fcntl.LOCK_NB or not actor:
                raise
            actor.point()


_REAL_FLOCK = fcntl.flock


@contextmanager
def stepped_disk() -> Iterator[None]:
    """Have actors stop before each operation on the disk."""
    steps: dict[str, Any] = {name: _stepped(getattr(os, name)) for name in _DISK}
    with (
        mock.patch.multiple(os, **steps),
        mock.patch.object(io, "open", _stepped(builtins.open)),
        mock.patch.object(fcntl, "flock", _flock),
    ):
        yield


class MemoryS3:
    """A bucket in memory, with the part of boto3's client that the store uses."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        with self._request():
            data = self._there(Key, "GetObject")
            body = mock.Mock(read=lambda: data)
            return {"Body": body, "ETag": _tag(data), "ContentLength": len(data)}

    def put_object(
        self, Bucket: str, Key: str, Body: bytes, IfNoneMatch: str | None = None
    ) -> dict[str, Any]:
        with self._request():
            if IfNoneMatch and Key in self.objects:
                raise _error(412, "PreconditionFailed", "PutObject")
            self.objects[Key] = Body
            return {"ETag": _tag(Body)}

    def delete_object(self, Bucket: str, Key: str, IfMatch: str) -> None:
        with self._request():
            if _tag(self._there(Key, "DeleteObject")) != IfMatch:
                raise _error(412, "PreconditionFailed", "DeleteObject")
            del self.objects[Key]

    def delete_objects(self, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        for item in Delete["Objects"]:  # not all at once
            with self._request():
                self.objects.pop(item["Key"], None)
        return {}

    def get_paginator(self, _: str) -> Any:
        return mock.Mock(paginate=self._paginate)

    def _paginate(self, Bucket: str, Prefix: str) -> list[dict[str, Any]]:
        with self._request():
            found = sorted(name for name in self.objects if name.startswith(Prefix))
            return [{"Contents": [{"Key": n, "Size": len(self.objects[n])}]} for n in found] or [
                {"KeyCount": 0}
            ]

    def upload_file(self, path: str, Bucket: str, Key: str, **_: Any) -> None:
        with self._request():
            self.objects[Key] = Path(path).read_bytes()

    def download_file(self, Bucket: str, Key: str, path: str, **_: Any) -> None:
        with self._request():
            Path(path).write_bytes(self._there(Key, "HeadObject"))

    def _there(self, key: str, operation: str) -> bytes:
        if key not in self.objects:
            raise _error(404, "NoSuchKey", operation)
        return self.objects[key]

    @contextmanager
    def _request(self) -> Iterator[None]:
        """Stop before a request; a fault loses the request, or its answer."""
        actor = current()
        if actor:
            actor.point()
        fault = actor.fault if actor else ""
        if actor and fault:
            actor.fault = ""
        if fault == "before":
            raise ConnectionClosedError(endpoint_url="memory")
        yield
        if fault == "after":
            raise ConnectionClosedError(endpoint_url="memory")


def _tag(data: bytes) -> str:
    return f'"{hash(data)}"'


def _error(status: int, code: str, operation: str) -> ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)
