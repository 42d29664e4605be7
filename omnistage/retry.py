"""Call again after transient errors, with back-off."""

import random
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol, TypeVar

from omnistage.errors import TransientError

T = TypeVar("T")


class Clock(Protocol):
    """What waits and tells the time; the module ``time`` is one."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Wait."""
        ...


def retry(
    call: Callable[[], T],
    *,
    patience: float = float("inf"),
    tries: float = float("inf"),
    first: float = 0.5,
    longest: float = 15.0,
    factor: float = 2.0,
    jitter: float = 0.0,
    notice: Callable[[str], None] | None = None,
    quiet: float = 10.0,
    clock: Clock = time,
) -> T:
    """Return what a call returns, made again after each :class:`TransientError`.

    Args:
        call: What is done; safe to repeat.
        patience: Seconds after which it is not tried again.
        tries: Calls at most.
        first: Seconds before the second call. An error's own ``wait`` counts where it is longer.
        longest: Seconds between two calls at most.
        factor: By which the wait grows each time.
        jitter: Part of a wait by which it is made longer or shorter at random.
        notice: Told that the call is repeated: after ``quiet`` seconds of trying, and each time
            that has tripled.
        quiet: Seconds before the first notice.
        clock: Waits and tells the time.

    Raises:
        TransientError: The last one, saying how long it was tried.
    """
    began, delay = clock.monotonic(), first
    for number in count(1):
        try:
            return call()
        except TransientError as e:
            wait = max(delay * random.uniform(1 - jitter, 1 + jitter), e.wait or 0)
            passed = clock.monotonic() - began
            if number >= tries or passed + wait > patience:
                if number > 1:
                    e.args = (f"{e}; given up after {passed:.0f} s of trying", *e.args[1:])
                raise
            if notice and passed >= quiet:
                endless = patience == float("inf")
                when = f"in {wait:.0f} s" if endless else f"for {patience - passed:.0f} s more"
                notice(f"{e}; trying again {when}")
                quiet *= 3
            clock.sleep(wait)
            delay = min(factor * delay, longest)
    raise AssertionError("unreachable")
