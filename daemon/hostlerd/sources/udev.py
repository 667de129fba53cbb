"""Device events as kicks."""

from __future__ import annotations

import trio

from hostlerd.host import Kick
from hostlerd.host.udev import Uevents

SUBSYSTEMS = ("pci", "mdev", "cpu")
"""PCI functions and mediated devices that come, go, are bound and unbound; CPUs that go on- and off-line."""


async def run(kick: Kick, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Started once it listens: what is enumerated after that misses nothing. Lost events are a kick like any other."""
    uevents = Uevents(SUBSYSTEMS)
    task_status.started()
    while True:
        await uevents.wait()
        kick()
