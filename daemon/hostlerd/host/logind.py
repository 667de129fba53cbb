"""The host's own sleep, as logind keeps it: locks that delay or refuse it, and being told of it.

Rules: interface and locks are those of org.freedesktop.login1(5) and systemd.io/INHIBITOR_LOCKS. A lock is a descriptor
and outlives logind, the bus and its connection; closing it is all there is to letting go. Where there is no logind, or
no bus, no lock is had and nothing is heard: sleep is then somebody else's business.
"""

from __future__ import annotations

import logging
import os
from typing import Literal

from hostler.errors import TimedOut, Unreachable
from hostlerd.host import Kick
from hostlerd.host.bus import PROPERTIES, Bus, CallFailed

log = logging.getLogger(__name__)

LOGIND = "org.freedesktop.login1"
PATH = "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"


class Lock:
    """host.Lock."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Logind:
    """host.Sleep."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def lock(self, mode: Literal["delay", "block"], why: str) -> Lock | None:
        words = ("sleep", "hostler", why, mode)
        try:
            fd = await self._bus.call_for_descriptor(LOGIND, PATH, MANAGER, "Inhibit", "ssss", *words)
        except (CallFailed, TimedOut, Unreachable) as error:
            log.info("the host's sleep cannot be inhibited: %s", error.message)
            return None
        return Lock(fd)

    async def is_near(self) -> bool:
        """PreparingForSleep: from the signal before it until the one after it."""
        try:
            (near,) = await self._bus.call(
                LOGIND, PATH, PROPERTIES, "Get", "ss", MANAGER, "PreparingForSleep"
            )
        except (CallFailed, TimedOut, Unreachable) as error:
            log.debug("logind does not say whether the host is about to sleep: %s", error.message)
            return False
        return bool(near)

    def listen(self, kick: Kick) -> None:
        self._bus.listen(kick, sender=LOGIND, interface=MANAGER, member="PrepareForSleep", path=PATH)
