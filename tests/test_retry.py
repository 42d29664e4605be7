"""Retries with back-off, on a clock that does not wait."""

from collections.abc import Callable

import pytest

from omnistage.errors import InputError, TransientError
from omnistage.retry import retry
from tests.clock import FakeClock


def busy(times: int) -> list[Exception]:
    return [TransientError("busy") for _ in range(times)]


def failing(*errors: Exception) -> Callable[[], str]:
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


def test_a_call_is_made_again_with_waits_that_double_to_the_longest() -> None:
    clock = FakeClock()
    call = failing(*busy(5))
    assert retry(call, first=1, longest=5, clock=clock) == "done"
    assert clock.slept == [1, 2, 4, 5, 5]


def test_the_other_side_may_ask_for_a_longer_wait() -> None:
    clock = FakeClock()
    assert retry(failing(TransientError("busy", 7), TransientError("", 0.1)), clock=clock) == "done"
    assert clock.slept == [7, 1]


def test_after_its_patience_or_its_tries_the_last_error_says_so() -> None:
    clock = FakeClock()
    with pytest.raises(TransientError, match=r"^busy; given up after 7 s of trying$"):
        retry(failing(*busy(9)), patience=10, first=1, clock=clock)
    with pytest.raises(TransientError, match="given up after 3 s"):
        retry(failing(*busy(9)), tries=3, first=1, clock=FakeClock())
    with pytest.raises(TransientError, match=r"^busy$"):
        retry(failing(TransientError("busy")), tries=1, clock=clock)


def test_another_error_is_not_retried() -> None:
    clock = FakeClock()
    with pytest.raises(InputError):
        retry(failing(InputError("no")), clock=clock)
    assert clock.slept == []


def test_who_waits_long_is_told_now_and_then() -> None:
    said: list[str] = []
    retry(
        failing(*busy(60)), first=2, longest=2, patience=200, notice=said.append, clock=FakeClock()
    )
    assert said[0] == "busy; trying again for 190 s more"
    assert len(said) == 3


def test_waits_are_spread_at_random() -> None:
    clock = FakeClock()
    retry(failing(*busy(4)), first=8, longest=8, jitter=0.5, clock=clock)
    assert all(4 <= wait <= 12 for wait in clock.slept)
    assert len(set(clock.slept)) > 1
