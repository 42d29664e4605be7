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
from collections.abc import Iterator
from contextlib import contextmanager


class OmnistageError(Exception):
    """Base of every error raised on purpose; its message is meant for the user."""

    exit_code = 1


class InputError(OmnistageError):
    """The input, the recipe or the machine's state is wrong, and trying again will not help."""

    exit_code = 2


class TransientError(OmnistageError):
    """A fault that may pass: a dropped connection, a busy server."""

    exit_code = 75


class StageFailedError(OmnistageError):
    """The work of a stage failed; the message holds the diagnosis and the last log lines."""

    exit_code = 1


class DamagedError(OmnistageError):
    """A stored artifact is incomplete or its bytes differ from its manifest."""

    exit_code = 1


_MACHINE = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EROFS: "the file system is read-only; choose a folder that can be written",
    errno.EACCES: "permission denied; choose a folder you may write, or mend its permissions",
    errno.EPERM: "permission denied; choose a folder you may write, or mend its permissions",
}


@contextmanager
def machine_errors(what: str) -> Iterator[None]:
    """Turn a full disk, a read-only file system and a missing permission into one clear message.

    Args:
        what: What was being done, such as ``"writing the store"``.

    Raises:
        InputError: For ``ENOSPC``, ``EDQUOT``, ``EROFS``, ``EACCES`` and ``EPERM``; any other
            ``OSError`` passes through.
    """
    try:
        yield
    except OSError as e:
        if e.errno in _MACHINE:
            where = f" ({e.filename})" if e.filename else ""
            raise InputError(f"{what}{where}: {_MACHINE[e.errno]}") from e
        raise
