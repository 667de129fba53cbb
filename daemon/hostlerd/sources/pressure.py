"""Domains that starve for CPUs, as the kernel tells it: heard only while the loop could do something about it.

Rules: as everywhere, what is heard says only "look again". A trigger that goes on would tell every other second: after
one nothing is listened to for PAUSE, which is far less than what was lent is lent for.
"""

from __future__ import annotations

from typing import Protocol

import trio

from hostlerd.host import Pressure
from hostlerd.model.isolation import MACHINE_SLICE

PAUSE = 10.0
"""Seconds."""


class Lender(Protocol):
    """The loop, as far as pressure goes."""

    async def wait_armed(self, *, armed: bool) -> None:
        """Until there is (or is not any more) something that could be lent to somebody who starves."""
        ...

    def starved(self) -> None:
        """Somebody did, just now."""
        ...


async def run(
    pressure: Pressure, lender: Lender, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    task_status.started()
    while True:
        await lender.wait_armed(armed=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, pressure, lender)
            await lender.wait_armed(armed=False)
            nursery.cancel_scope.cancel()


async def _listen(pressure: Pressure, lender: Lender) -> None:
    while True:
        await pressure.wait_starved(MACHINE_SLICE)
        lender.starved()
        await trio.sleep(PAUSE)
