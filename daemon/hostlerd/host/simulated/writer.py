"""The seam's Writer on the simulated kernel: a write that blocks is waited for up to its limit and then left behind."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import trio

from hostler.errors import Wedged
from hostlerd.host.simulated.kernel import Kernel
from hostlerd.host.simulated.pci import Blocked, Ticket, fail
from hostlerd.host.simulated.tree import WouldHang


class SimulatedWriter:
    """Implements `hostlerd.host.Writer`."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def write(self, path: str, text: str, *, limit: float) -> None:
        """Raises OSError and, after `limit` seconds, Wedged: the write goes on without us and may yet succeed."""
        await self._slow(path, limit)
        await trio.lowlevel.checkpoint()
        try:
            self._kernel.write(path, text)
        except Blocked as blocked:
            await self._wait(blocked.ticket, path, limit)

    async def read(self, path: str, *, size: int, limit: float) -> bytes:
        """Raises OSError, and Wedged where the kernel does not return from the read."""
        await self._slow(path, limit)
        await trio.lowlevel.checkpoint()
        try:
            return self._kernel.read(path)[:size]
        except WouldHang:
            await trio.sleep(limit)
            raise Wedged(
                f"the kernel does not return from reading {path}",
                remedy="a reboot ends it",
                data={"object": path},
            ) from None

    async def run(self, command: Sequence[str], *, limit: float) -> int:
        """Only modprobe exists here; anything else is FileNotFoundError, as for a program that is not installed."""
        await self._slow(command[0], limit)
        await trio.lowlevel.checkpoint()
        if command[0].rpartition("/")[2] != "modprobe":
            raise fail(errno.ENOENT, command[0])
        return self._kernel.modprobe(list(command[1:]))

    async def start(self) -> int:
        """There is no process: 0."""
        await trio.lowlevel.checkpoint()
        return 0

    async def aclose(self) -> None:
        """There is no process."""
        await trio.lowlevel.checkpoint()

    async def replace_file(self, path: str, text: str | None) -> None:
        await trio.lowlevel.checkpoint()
        self._kernel.begin()
        if path.startswith(("/sys/", "/proc/")):
            raise fail(errno.EPERM, path)
        if text is None:
            self._kernel.tree.discard(path)
        else:
            self._kernel.tree.put(path, text)
        self._kernel.done(path, text or "")

    async def _wait(self, ticket: Ticket, path: str, limit: float) -> None:
        ended = trio.Event()
        ticket.then.append(ended.set)
        with trio.move_on_after(limit):
            await ended.wait()
        if not ticket.done:
            raise Wedged(
                f"the kernel does not return from writing {path}",
                remedy="a reboot ends it",
                data={"object": ticket.address},
            )
        if ticket.error is not None:
            raise ticket.error

    async def _slow(self, path: str, limit: float) -> None:
        seconds = self._kernel.faults.get("slow-write", path)
        if seconds is None:
            return
        if float(seconds) > limit:
            await trio.sleep(limit)
            raise Wedged(f"the kernel does not return from writing {path}", data={"object": path})
        await trio.sleep(float(seconds))
