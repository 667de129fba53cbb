"""For how long shared domains count as starving: a while after the kernel last said so.

Nothing tells that pressure is gone, so one look follows, HOLD after it was last told. Where it is back soon after what
was lent was taken back, it is lent for twice as long, up to MOST: who starves whenever that is taken back is not to be
moved every minute.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import trio

from hostlerd.model.observed import Observed
from hostlerd.model.plan import Plan

log = logging.getLogger(__name__)

HOLD, MOST = 60.0, 960.0
"""Seconds."""


class Lending:
    """`look`: look again, at everything."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._hold = HOLD
        self._until = -math.inf
        self._armed = False
        self._changed = trio.Event()

    @property
    def starving(self) -> bool:
        return self._armed and self._until > trio.current_time()

    @property
    def look_again_after(self) -> float:
        """Seconds until what was lent is taken back; infinite where nothing was."""
        left = self._until - trio.current_time()
        return left if self._armed and left > 0 else math.inf

    def seen(self, observed: Observed, plan: Plan) -> None:
        """Armed while somebody shares CPUs who could have more, which others have for themselves."""
        running = {domain.uuid for domain in observed.snapshot.running}
        sharing = any(place.vcpus is None and place.uuid in running for place in plan.placements)
        armed = sharing and bool(plan.dedicated)
        if armed != self._armed:
            self._armed = armed
            self._until, self._hold = -math.inf, HOLD
            self._changed.set()
            self._changed = trio.Event()

    async def wait_armed(self, *, armed: bool) -> None:
        while self._armed != armed:
            await self._changed.wait()

    def starved(self) -> None:
        now = trio.current_time()
        if self._until <= now:
            soon = now - self._until < self._hold
            self._hold = min(2 * self._hold, MOST) if soon else HOLD
            log.info("shared domains wait for CPUs")
            self._until = now + self._hold
            self._look()
        else:
            self._until = now + self._hold
