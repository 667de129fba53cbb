"""Storms of events as few kicks, and none lost."""

from __future__ import annotations

import itertools

import pytest
import trio
import trio.testing

from hostlerd.sources.quiet import MOST, QUIET, kick_when_quiet

pytestmark = pytest.mark.trio


class Events:
    """Events every so many seconds, so many of them."""

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[None](1000)
        self.kicks: list[float] = []

    def kick(self) -> None:
        self.kicks.append(trio.current_time())


async def hear(gaps: list[float]) -> tuple[float, list[float]]:
    """When the last event was, and the kicks."""
    events = Events()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kick_when_quiet, events.receive.receive, events.kick)
        for gap in gaps:
            await trio.sleep(gap)
            events.send.send_nowait(None)
        last = trio.current_time()
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    return last, events.kicks


async def test_one_event_is_one_kick_a_moment_later(autojump_clock: trio.testing.MockClock) -> None:
    last, kicks = await hear([1.0])
    assert kicks == [pytest.approx(last + QUIET)]


async def test_a_thousand_at_once_are_one(autojump_clock: trio.testing.MockClock) -> None:
    last, kicks = await hear([0.0] * 1000)
    assert kicks == [pytest.approx(last + QUIET)]


async def test_a_storm_that_does_not_end_is_looked_at_now_and_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    last, kicks = await hear([0.1] * 200)
    gaps = [b - a for a, b in itertools.pairwise(kicks)]
    assert kicks[-1] >= last
    assert len(kicks) <= 20 / MOST + 2
    assert max(gaps) <= MOST + 0.2


async def test_events_apart_are_kicks_apart(autojump_clock: trio.testing.MockClock) -> None:
    _, kicks = await hear([1.0, 1.0, 1.0])
    assert len(kicks) == 3
