"""The errors of omnistage and the exit codes they end a stage with.

====  =======================================================================
exit  meaning
====  =======================================================================
0     done
1     failed; the last log lines say why
2     the input or the settings are wrong: never retried
75    a transient error (``EX_TEMPFAIL``): worth another try
====  =======================================================================
"""

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import orjson

from omnistage.redact import redact


class OmnistageError(Exception):
    """Base of every error raised on purpose; its message is meant for the user, without secrets."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))


class InputError(OmnistageError):
    """The input, the recipe or the machine's state is wrong, and trying again will not help."""

    exit_code = 2


class TransientError(OmnistageError):
    """Trying again may help: a dropped connection, a busy server.

    Args:
        message: For the user.
        wait: Seconds that the other side asks to be left alone, if it says so.
    """

    exit_code = 75

    def __init__(self, message: str = "", wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class LostPeerError(TransientError):
    """Another process of a distributed job does not answer: it, and not this one, is at fault."""


class StageFailedError(OmnistageError):
    """The work of a stage failed; the message holds the diagnosis and the last log lines."""

    exit_code = 1


class KilledError(StageFailedError):
    """A process of the stage was killed from outside, most often for want of memory."""


class DamagedError(OmnistageError):
    """A stored artifact is incomplete or its bytes differ from its manifest."""

    exit_code = 1


@dataclass(frozen=True)
class ErrorReport:
    """How something failed, as data: what a pod, a run's record and a summary say of it."""

    kind: str
    """Name of the exception's class, such as ``InputError``."""
    exit_code: int
    message: str

    @classmethod
    def of(cls, error: BaseException) -> "ErrorReport":
        """Return the report of an exception; one not raised on purpose is shown with its place."""
        if isinstance(error, OmnistageError):
            return cls(type(error).__name__, error.exit_code, str(error))
        kind, last = type(error).__name__, traceback.extract_tb(error.__traceback__)[-1:]
        where = "".join(f" ({f.filename}:{f.lineno}, in {f.name})" for f in last)
        return cls(kind, 1, redact(f"{kind}: {error}{where}"))

    @classmethod
    def parse(cls, text: str) -> "ErrorReport | None":
        """Return the report that :meth:`to_json` wrote, or None for any other text."""
        try:
            return cls(**orjson.loads(text))
        except (orjson.JSONDecodeError, TypeError):
            return None

    def to_json(self, limit: int | None = None) -> bytes:
        """Return the report as JSON; the message loses its middle where that is over ``limit``."""
        data, kept = orjson.dumps(self), len(self.message)
        while limit and len(data) > limit and kept:
            kept = kept * limit // (len(data) + 64)
            half = kept // 2
            short = f"{self.message[:half]} … {self.message[len(self.message) - half :]}"
            data = orjson.dumps(replace(self, message=short))
        return data


_MACHINE = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.ENOLCK: "the file system has no file locks; choose another folder",
    errno.EOPNOTSUPP: "the file system cannot do this; choose another folder",
    errno.EROFS: "the file system is read-only; choose a folder that can be written",
    errno.EACCES: "permission denied; choose a folder you may write, or mend its permissions",
    errno.EPERM: "permission denied; choose a folder you may write, or mend its permissions",
}

PASSING = {
    errno.EIO: "input/output error",
    errno.ESTALE: "stale file handle",
    errno.ETIMEDOUT: "no answer in time",
    errno.EHOSTDOWN: "its server is down",
    errno.ENOTCONN: "the file system is not connected",
}
"""What a shared file system says while its server restarts, moves or cannot be reached."""


@contextmanager
def machine_errors(what: str) -> Iterator[None]:
    """Turn what is wrong with a disk or its permissions into one clear message.

    Args:
        what: What was being done, such as ``"writing the store"``.

    Raises:
        InputError: If the disk is full or read-only, may not be written or has no locks.
        TransientError: If it is a fault that a shared file system gets over. Any other ``OSError``
            passes through.
    """
    try:
        yield
    except OSError as e:
        where = f" ({e.filename})" if e.filename else ""
        if e.errno in _MACHINE:
            raise InputError(f"{what}{where}: {_MACHINE[e.errno]}") from e
        if e.errno in PASSING:
            raise TransientError(
                f"{what}{where}: {PASSING[e.errno]}; it may pass, so run it again, and look at the "
                "disk or its server if it stays"
            ) from e
        raise
