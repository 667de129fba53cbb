"""The host's sleep on the simulated logind: who is told, what is held, what is let go."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from hostler.errors import HostFailed
from hostlerd.host.simulated.sleep import DELAY_MAX, SimulatedSleep
from hostlerd.sources import sleep as source

pytestmark = pytest.mark.trio


@dataclass
class Loop:
    """source.Sleeper, with a pass that takes `takes` seconds."""

    takes: float = 0.0
    reason: str = ""
    told: list[str] = field(default_factory=list)
    other: trio.Event = field(default_factory=trio.Event)

    def because(self, reason: str) -> None:
        self.reason = reason
        self.other.set()
        self.other = trio.Event()

    async def wait_reason(self, previous: str) -> str:
        while self.reason == previous:
            await self.other.wait()
        return self.reason

    def refused(self, why: str) -> None:
        self.told.append(f"refused: {why}")

    async def hold_still(self, limit: float) -> bool:
        self.told.append("hold still")
        with trio.move_on_after(limit):
            await trio.sleep(self.takes)
            return True
        return False

    def go_on(self) -> None:
        self.told.append("go on")


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked(0.001)


async def test_a_delay_is_held_while_awake(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock):
    sleep, loop = SimulatedSleep(), Loop(takes=2.0)
    await nursery.start(source.run, sleep, loop)
    await settle()
    assert [(lock["mode"], lock["why"]) for lock in sleep.show()] == [("delay", source.WHY)]
    assert await sleep.fall_asleep() == pytest.approx(2.0, abs=0.1)
    assert sleep.show() == []
    assert loop.told == ["hold still"]
    sleep.wake()
    await settle()
    assert loop.told == ["hold still", "go on"]
    assert [lock["mode"] for lock in sleep.show()] == ["delay"]


async def test_a_pass_that_takes_too_long_is_not_waited_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
):
    sleep, loop = SimulatedSleep(), Loop(takes=100.0)
    await nursery.start(source.run, sleep, loop)
    await settle()
    waited = await sleep.fall_asleep()
    assert waited == pytest.approx(source.HOLD_LIMIT, abs=0.1)
    assert waited < DELAY_MAX


async def test_sleep_is_refused_while_there_is_a_reason(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
):
    sleep, loop = SimulatedSleep(), Loop()
    await nursery.start(source.run, sleep, loop)
    loop.because("win11 has 0000:01:00.0")
    await settle()
    with pytest.raises(HostFailed, match=r"win11 has 0000:01:00\.0"):
        await sleep.fall_asleep()
    loop.because("win11 has 0000:01:00.0; work has 0000:05:00.0")
    await settle()
    assert [lock["why"] for lock in sleep.show() if lock["mode"] == "block"] == [loop.reason]
    loop.because("")
    await settle()
    assert loop.told == [
        "refused: win11 has 0000:01:00.0",
        "refused: win11 has 0000:01:00.0; work has 0000:05:00.0",
        "refused: ",
    ]
    await sleep.fall_asleep()


async def test_the_locks_go_with_the_daemon(autojump_clock: trio.testing.MockClock):
    sleep, loop = SimulatedSleep(), Loop(reason="win11 has 0000:01:00.0")
    async with trio.open_nursery() as nursery:
        await nursery.start(source.run, sleep, loop)
        await settle()
        assert len(sleep.show()) == 2
        nursery.cancel_scope.cancel()
    assert sleep.show() == []


async def test_without_a_logind_nothing_happens(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
):
    sleep, loop = SimulatedSleep(there=False), Loop(reason="win11 has 0000:01:00.0")
    await nursery.start(source.run, sleep, loop)
    await trio.sleep(1000)
    assert loop.told == ["refused: "]


async def test_a_sleep_that_was_missed_is_looked_after(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
):
    """The bus was away, or we were too slow."""
    sleep, loop = SimulatedSleep(), Loop()
    await nursery.start(source.run, sleep, loop)
    await settle()
    sleep.wake()
    await settle()
    assert loop.told == ["go on"]
    assert len(sleep.show()) == 1


async def test_the_end_of_a_sleep_that_nobody_told(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
):
    sleep, loop = SimulatedSleep(), Loop()
    await nursery.start(source.run, sleep, loop)
    await settle()
    await sleep.fall_asleep()
    sleep.near = False
    await trio.sleep(source.RECHECK + 1)
    assert loop.told == ["hold still", "go on"]
