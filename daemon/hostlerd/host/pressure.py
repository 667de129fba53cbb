"""Tasks of a control group that wait for a CPU: the kernel's own word for it (Documentation/accounting/psi.rst).

A trigger is a line written to cpu.pressure and lives as long as the file is open; it comes at most once in its window.
The window is of 2 s because with others the kernel asks for CAP_SYS_RESOURCE (psi_trigger_create). What tells is
EPOLLPRI, which trio does not wait for: so an epoll of its own holds the file, and is readable when there is something.
A group that goes tells, too (EPOLLERR), and has to be opened anew when it is there again.
"""

from __future__ import annotations

import os
import select

import trio

from hostlerd.host.inotify import appearances

GROUPS = "/sys/fs/cgroup"
TRIGGER = b"some 300000 2000000\0"
"""Some task has waited for 300 ms in 2 s: 15 %."""


class LivePressure:
    """host.Pressure of the running kernel."""

    def __init__(self, root: str = GROUPS) -> None:
        self._root = root

    async def wait_starved(self, group: str) -> None:
        path = f"{self._root}/{group}/cpu.pressure"
        while True:
            try:
                if await _triggered(path):
                    return
            except FileNotFoundError:
                await _wait_for(path)
            except OSError:
                # The kernel has no PSI, it is switched off, or it knows no triggers.
                await trio.sleep_forever()


async def _triggered(path: str) -> bool:
    """False when the group is gone. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(fd, TRIGGER)
        return await wait_priority(fd)
    finally:
        os.close(fd)


async def wait_priority(fd: int) -> bool:
    """Until there is priority data; False when there will be none any more."""
    with select.epoll() as events:
        events.register(fd, select.EPOLLPRI)
        await trio.lowlevel.wait_readable(events.fileno())
        return not any(event & (select.EPOLLERR | select.EPOLLHUP) for _, event in events.poll(0))


async def _wait_for(path: str) -> None:
    """Until the group is there, or a folder on the way to it."""
    try:
        with appearances([os.path.dirname(path)]) as seen:
            if not _is_there(path):
                await seen.wait()
    except OSError:
        await trio.sleep_forever()


def _is_there(path: str) -> bool:
    return os.path.exists(path)
