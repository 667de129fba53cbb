"""The host's sleep as logind keeps it: locks that delay or refuse it, and who is told.

Follows src/login/logind-dbus.c and logind-inhibit.c: what is refused says whose lock it is; delays are waited for as
long as InhibitDelayMaxSec; PreparingForSleep is true from before the host sleeps until it is awake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import trio

from hostler.errors import HostFailed
from hostlerd.host import Kick

DELAY_MAX = 5.0
"""InhibitDelayMaxSec of logind.conf(5), unless somebody changed it."""

Mode = Literal["delay", "block"]


class SimulatedLock:
    def __init__(self, sleep: SimulatedSleep, mode: Mode, why: str) -> None:
        self._sleep, self.mode, self.why = sleep, mode, why

    def release(self) -> None:
        self._sleep.let_go(self)


@dataclass(slots=True)
class SimulatedSleep:
    """Implements `hostlerd.host.Sleep`. `there`: is there a logind? `asleep`: nothing but it knows."""

    there: bool = True
    near: bool = False
    asleep: bool = False
    locks: list[SimulatedLock] = field(default_factory=list[SimulatedLock])
    _kicks: list[Kick] = field(default_factory=list[Kick])
    _freed: trio.Event = field(default_factory=trio.Event)

    async def lock(self, mode: Mode, why: str) -> SimulatedLock | None:
        await trio.lowlevel.checkpoint()
        if not self.there:
            return None
        lock = SimulatedLock(self, mode, why)
        self.locks.append(lock)
        return lock

    async def is_near(self) -> bool:
        await trio.lowlevel.checkpoint()
        return self.near

    def listen(self, kick: Kick) -> None:
        self._kicks.append(kick)

    def let_go(self, lock: SimulatedLock) -> None:
        if lock in self.locks:
            self.locks.remove(lock)
            self._freed.set()

    def show(self) -> list[dict[str, str]]:
        """`systemd-inhibit --list`."""
        return [
            {"what": "sleep", "who": "hostler", "mode": lock.mode, "why": lock.why} for lock in self.locks
        ]

    async def fall_asleep(self, *, force: bool = False) -> float:
        """`systemctl suspend`; `force`: with --ignore-inhibitors. Returns the seconds that delays took.

        Raises HostFailed where a lock refuses it.
        """
        blocking = next((lock for lock in self.locks if lock.mode == "block"), None)
        if blocking is not None and not force:
            raise HostFailed(f'Operation inhibited by "hostler" (hostlerd), reason is "{blocking.why}".')
        self._tell(near=True)
        began = trio.current_time()
        with trio.move_on_after(DELAY_MAX):
            while any(lock.mode == "delay" for lock in self.locks):
                self._freed = trio.Event()
                await self._freed.wait()
        self.asleep = True
        return trio.current_time() - began

    def wake(self) -> None:
        self.asleep = False
        self._tell(near=False)

    def _tell(self, *, near: bool) -> None:
        self.near = near
        for kick in self._kicks:
            kick()
