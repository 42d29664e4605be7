"""A clock whose time passes only when somebody waits."""

from collections.abc import Callable


class FakeClock:
    """Stands for the module ``time``.

    Args:
        start: Seconds since the epoch.
        tick: Called after each wait, once for each second that has passed: what others do
            meanwhile.
    """

    def __init__(self, start: float = 1_795_262_400.0, tick: Callable[[], None] | None = None):
        self._start = start
        self._passed = 0.0
        self._tick = tick
        self.slept: list[float] = []

    def time(self) -> float:
        return self._start + self._passed

    def monotonic(self) -> float:
        return self._passed

    def sleep(self, seconds: float, /) -> None:
        self.slept.append(seconds)
        before = int(self._passed)
        end = self._passed + seconds
        if self._tick:
            for second in range(before + 1, int(end) + 1):
                self._passed = max(self._passed, float(second))
                self._tick()
        self._passed = end
