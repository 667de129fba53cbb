"""Whether libvirtd answers: it may be away, hang, or wait for a hook. Knows nothing of domains."""

from __future__ import annotations

import math

import trio

from hostler.errors import TimedOut, Unreachable


class Libvirtd:
    """`away`: not running. `held`: reasons for which no call returns now ("hook", "hang")."""

    def __init__(self) -> None:
        self.away = False
        self.held: list[str] = []
        self._changed = trio.Event()

    async def answer(self, limit: float = math.inf) -> None:
        """Returns when a call would. Raises Unreachable while it is away, TimedOut after `limit` seconds."""
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(limit):
            while self.held and not self.away:
                await self._changed.wait()
        if self.away:
            raise Unreachable(
                "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Connection refused",
                remedy="see `systemctl status libvirtd`",
            )
        if self.held:
            raise TimedOut(f"libvirt does not answer within {limit:g} s", data={"object": "libvirt"})

    def hold(self, why: str) -> None:
        self.held.append(why)

    def release(self, why: str) -> None:
        if why in self.held:
            self.held.remove(why)
        self._changed.set()
        self._changed = trio.Event()
