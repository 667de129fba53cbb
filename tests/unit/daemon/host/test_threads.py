"""Threads that may be abandoned."""

from __future__ import annotations

import threading

import pytest
import trio

from hostler.errors import TimedOut
from hostlerd.host.threads import in_thread


async def test_what_the_function_returns_or_raises_comes_back() -> None:
    assert await in_thread(divmod, 7, 2, limit=5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0, limit=5)


async def test_a_call_that_does_not_return_is_left_behind() -> None:
    end = threading.Event()
    with pytest.raises(TimedOut, match=r"^listing domains did not return within 0\.05 s$"):
        await in_thread(end.wait, limit=0.05, what="listing domains")
    end.set()


async def test_the_one_token_is_taken_until_the_thread_ends() -> None:
    end, one = threading.Event(), trio.CapacityLimiter(1)
    with pytest.raises(TimedOut):
        await in_thread(end.wait, limit=0.05, limiter=one)
    with pytest.raises(TimedOut):
        await in_thread(int, limit=0.05, limiter=one)
    end.set()
    assert await in_thread(int, limit=5, limiter=one) == 0


async def test_cancelling_does_not_wait_for_the_thread() -> None:
    end = threading.Event()
    with trio.move_on_after(0.05):
        await in_thread(end.wait, limit=60)
    assert not end.is_set()
    end.set()
