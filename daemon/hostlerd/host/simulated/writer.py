"""The seam's Writer on the simulated kernel: a write that blocks is waited for up to its limit and then left behind.

What is left behind is a process of the simulated host, in its /proc like any other, until the kernel returns.
"""

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
        self._pid = 0

    async def write(self, path: str, text: str, *, limit: float) -> None:
        """Raises OSError and, after `limit` seconds, Wedged: the write goes on without us and may yet succeed."""
        await self._slow(path, limit)
        await self._slow_pages(path, text, limit)
        await trio.lowlevel.checkpoint()
        self._kernel.cgroups.privileged = False
        try:
            self._kernel.write(path, text)
        except Blocked as blocked:
            await self._wait(blocked.ticket, path, limit)
        finally:
            self._kernel.cgroups.privileged = True

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
        words = list(command[1:])
        try:
            return self._kernel.modprobe(words)
        except Blocked as blocked:  # a driver that goes takes its devices' remove() along
            await self._wait(blocked.ticket, " ".join(command), limit)
            return self._kernel.modprobe(words)

    async def start(self) -> int:
        """A number that no process has. There is one only when it is left behind."""
        await trio.lowlevel.checkpoint()
        if not self._pid:
            self._pid = self._kernel.processes.free_pid()
        return self._pid

    async def wait_ended(self, pid: int) -> None:
        while pid in self._kernel.left_behind:
            ended = trio.Event()
            self._kernel.returned.append(ended.set)
            await ended.wait()

    async def aclose(self) -> None:
        """Of those that wait for work there is none."""
        await trio.lowlevel.checkpoint()
        self._pid = 0

    def _leave(self, waits_for: str) -> int:
        pid, self._pid = self._pid, 0
        if pid:
            self._kernel.leave_behind(pid, waits_for)
        return pid

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
                remedy="as a rule only a restart of the host ends it",
                data={"object": ticket.address, "pid": self._leave(ticket.address)},
            )
        if ticket.error is not None:
            raise ticket.error

    async def _slow_pages(self, path: str, text: str, limit: float) -> None:
        """A process that is killed in the middle leaves with the page that it is at (set_max_huge_pages)."""
        slow = self._kernel.hugepages.slow(path, text)
        if slow is None:
            return
        seconds, pages, lasting = slow
        if seconds * pages <= limit:
            await trio.sleep(seconds * pages)
            return
        await trio.sleep(limit)
        self._kernel.write(path, f"{lasting + int(limit / seconds)}\n")
        pid, self._pid = self._pid, 0
        raise Wedged(f"{path} did not return within {limit:g} s", data={"object": path, "pid": pid})

    async def _slow(self, path: str, limit: float) -> None:
        seconds = self._kernel.faults.get("slow-write", path)
        if seconds is None:
            return
        if float(seconds) > limit:
            await trio.sleep(limit)
            raise Wedged(
                f"the kernel does not return from writing {path}",
                data={"object": path, "pid": self._leave(path)},
            )
        await trio.sleep(float(seconds))
