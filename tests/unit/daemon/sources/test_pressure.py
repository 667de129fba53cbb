"""Pressure is listened to only while something could be done about it, and not too often."""

from __future__ import annotations

import trio
import trio.testing

from hostlerd.sources import pressure


class Kernel:
    """Starves whenever it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def wait_starved(self, group: str) -> None:
        assert group == "machine.slice"
        self.asked += 1
        await trio.lowlevel.checkpoint()


class Lender:
    def __init__(self) -> None:
        self.armed = False
        self.changed = trio.Event()
        self.told = 0

    def arm(self, armed: bool) -> None:
        self.armed = armed
        self.changed.set()
        self.changed = trio.Event()

    async def wait_armed(self, *, armed: bool) -> None:
        while self.armed != armed:
            await self.changed.wait()

    def starved(self) -> None:
        self.told += 1


async def test_it_listens_while_armed_and_pauses_after_each_event(
    autojump_clock: trio.testing.MockClock,
) -> None:
    kernel, lender = Kernel(), Lender()
    async with trio.open_nursery() as nursery:
        await nursery.start(pressure.run, kernel, lender)
        await trio.sleep(100)
        assert not kernel.asked
        lender.arm(True)
        await trio.sleep(10 * pressure.PAUSE - 1)
        assert kernel.asked == lender.told == 10
        lender.arm(False)
        await trio.sleep(100)
        assert kernel.asked == 10
        lender.arm(True)
        await trio.sleep(1)
        assert kernel.asked == 11
        nursery.cancel_scope.cancel()
