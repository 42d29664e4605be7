"""Follow the logs of all pods of a gang while they run, for the operator deletes them with it."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from omnistage.cluster.api import PODS, Api, ApiError, DroppedError
from omnistage.errors import OmnistageError

_KEPT = 200
_PAUSE = 1.0


class PodLog:
    """The log of one pod's program, read from its start in a thread of its own.

    Args:
        api: Where from.
        pod: The pod, whose program has been started.
        say: Given each line once, in order.
    """

    def __init__(self, api: Api, pod: Mapping[str, Any], say: Callable[[str], None]) -> None:
        metadata = pod["metadata"]
        self._api = api
        self._namespace: str = metadata["namespace"]
        self._pod: str = metadata["name"]
        self._uid: str = metadata["uid"]
        self._container: str = pod["spec"]["containers"][0]["name"]
        self._say = say
        self._lines: deque[tuple[float, str]] = deque(maxlen=_KEPT)
        self._stamp = ""
        self._position = (0, 0)
        """Time of the last line, in nanoseconds, and how many lines have that time."""
        self._skip: tuple[int, int] | None = None
        """The position up to which a stream only repeats what is known."""
        self._stopped = threading.Event()
        self.heard = api.clock.monotonic()
        """When the last line came."""
        self._thread = threading.Thread(target=self._run, name=f"log {self._pod}", daemon=True)
        self._thread.start()

    def lines(self) -> list[tuple[float, str]]:
        """Return the last lines, each with when it was written by its node's clock."""
        return list(self._lines)

    def finish(self, timeout: float) -> None:
        """Wait for the end of the log, at most so many seconds, and stop."""
        self._thread.join(timeout)
        self._stopped.set()

    def stop(self) -> None:
        """Read no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                if self._read():
                    return
            except OmnistageError as e:
                if isinstance(e, ApiError) and e.status in (401, 403):
                    self._lines.append((self._api.now(), f"(its log cannot be read: {e})"))
                    return
            self._stopped.wait(_PAUSE)

    def _read(self) -> bool:
        """Read on until the stream ends, and return whether that was the end of the log."""
        pod = self._api.get(PODS, self._namespace, self._pod)
        if pod is None or pod["metadata"]["uid"] != self._uid:
            return True
        statuses = pod.get("status", {}).get("containerStatuses") or []
        states = [c.get("state", {}) for c in statuses if c["name"] == self._container]
        ended = any("terminated" in s for s in states)
        self._skip = self._position
        try:
            for text in self._api.log_lines(
                self._namespace,
                self._pod,
                self._container,
                since=self._stamp,
                follow=not ended,
            ):
                self._take(text)
                if self._stopped.is_set():
                    return True
        except DroppedError:
            return False
        # A stream may end early without an error: only a reading that began after the program had
        # ended is certain to hold its last lines.
        return ended

    def _take(self, text: str) -> None:
        """Take a line, which follows its time stamp, unless an earlier stream has given it."""
        stamp, _, line = text.partition(" ")
        at = _nanoseconds(stamp)
        if at is None:
            return
        if self._skip:
            last, count = self._skip
            if at < last:
                return
            if at == last and count:
                self._skip = (last, count - 1)
                return
            self._skip = None
        last, count = self._position
        self._position = (at, count + 1 if at == last else 1)
        self._stamp = stamp
        self.heard = self._api.clock.monotonic()
        # A progress bar rewrites its line: only its last state is kept.
        shown = line.rstrip("\r").rpartition("\r")[2]
        self._lines.append((at / 1e9, shown))
        self._say(shown)


def _nanoseconds(stamp: str) -> int | None:
    """Return a log line's time, which has nine decimals, since the epoch."""
    head, _, tail = stamp.partition(".")
    digits = tail[: next((n for n, c in enumerate(tail) if not c.isdigit()), len(tail))]
    try:
        whole = datetime.fromisoformat(head + tail[len(digits) :])
    except ValueError:
        return None
    return int(whole.timestamp()) * 10**9 + int(digits.ljust(9, "0")[:9] or 0)
