"""Device events as kicks."""

from __future__ import annotations

import trio

from hostlerd.host import Kick
from hostlerd.host.udev import Uevents
from hostlerd.sources.quiet import kick_when_quiet

SUBSYSTEMS = ("pci", "mdev", "cpu", "vfio-dev")
"""PCI functions and mediated devices that come, go, are bound and unbound; CPUs that go on- and off-line. From Linux
6.6 on the end of its vfio-dev is all that tells that a card is being taken from a guest, which may take as long as the
guest runs.
"""
USB = ("usb",)
"""USB devices and their interfaces: add, bind (only then is a device ready to be given away), unbind, remove."""


async def run(kick: Kick, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Started once it listens: what is enumerated after that misses nothing. Lost events are a kick like any other."""
    uevents = Uevents(SUBSYSTEMS)
    task_status.started()
    while True:
        await uevents.wait()
        kick()


async def run_usb(kick: Kick, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """As `run`, when the storm is over. A subscription of its own, so that nobody else's events wait for that."""
    uevents = Uevents(USB)
    task_status.started()
    await kick_when_quiet(uevents.wait, kick)
