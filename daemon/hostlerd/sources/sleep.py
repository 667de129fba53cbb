"""The host's own sleep: told to the loop before and after, refused while a guest or a handoff is in its way.

Rules: as everywhere, what is heard says only "look again"; whether the host is about to sleep is asked. Two locks. The
*delay* lock is held while awake, so that a pass that is under way can end before the host sleeps (for a moment: logind
waits 5 s, InhibitDelayMaxSec). The *block* lock is held while there is a reason: a card does not keep what a guest has
loaded into it through the host's sleep.
"""

from __future__ import annotations

import logging
from typing import Protocol

import trio

from hostlerd.host import Lock, Sleep
from hostlerd.reconcile.latch import Latch

log = logging.getLogger(__name__)

HOLD_LIMIT = 4.0
"""Seconds a pass has to end, of the 5 that logind waits."""
RECHECK = 60.0
"""Seconds after which a host that is said to be about to sleep, and runs, is asked again."""
WHY = "devices are put where they belong before the host sleeps"


class Sleeper(Protocol):
    """The loop, as far as the host's sleep goes."""

    async def wait_reason(self, previous: str) -> str:
        """Why the host must not sleep, empty if it may, once that is another reason than `previous`."""
        ...

    def refused(self, why: str) -> None:
        """Sleep is refused now, with these words; empty: it is not."""
        ...

    async def hold_still(self, limit: float) -> bool:
        """Begin nothing more, and wait until nothing is under way. False if something still is after `limit` s."""
        ...

    def go_on(self) -> None:
        """Awake again, or as before: look at everything."""
        ...


async def run(
    sleep: Sleep, sleeper: Sleeper, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Until cancelled; the locks go then."""
    heard = Latch()
    sleep.listen(heard.kick)
    task_status.started()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_refuse, sleep, sleeper)
        nursery.start_soon(_delay, sleep, sleeper, heard)


async def _refuse(sleep: Sleep, sleeper: Sleeper) -> None:
    lock: Lock | None = None
    why = ""
    try:
        while True:
            why = await sleeper.wait_reason(why)
            before, lock = lock, await sleep.lock("block", why) if why else None
            if before is not None:
                before.release()
            sleeper.refused(why if lock is not None else "")
    finally:
        if lock is not None:
            lock.release()


async def _delay(sleep: Sleep, sleeper: Sleeper, heard: Latch) -> None:
    lock: Lock | None = None
    try:
        while True:
            if lock is None:
                lock = await sleep.lock("delay", WHY)
            if await sleep.is_near():
                log.info("the host is about to sleep")
                if not await sleeper.hold_still(HOLD_LIMIT):
                    log.warning("the host sleeps although a step is under way")
                if lock is not None:
                    lock.release()
                    lock = None
                while await sleep.is_near():
                    with trio.move_on_after(RECHECK):
                        await heard.wait()
                log.info("the host is awake")
                heard.clear()  # that was it; what comes from now on is asked for at the top
                sleeper.go_on()
                continue
            await heard.wait()
            if not await sleep.is_near():
                sleeper.go_on()  # it is over already, or the bus was away
    finally:
        if lock is not None:
            lock.release()
