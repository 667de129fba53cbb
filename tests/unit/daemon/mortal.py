"""Lives of the daemon that end at a line of the journal, as by kill -9; and all of them, one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.daemon.stable import Killed, Stable, stable

from hostler.errors import HostFailed
from hostlerd.act.journal import Journal
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.settings import Settings

QUIET = ("/proc/irq", "/sys/devices/virtual/workqueue", "/sys/devices/system/cpu/cpufreq")


class MortalJournal(Journal):
    """Dies after a number of lines, at the line (before what it announces)."""

    lines_left = -1

    def _append(self, line: dict[str, Any]) -> None:
        super()._append(line)
        self.lines_left -= 1
        if self.lines_left == 0:
            raise Killed


def make_mortal(one: Stable, lines: int) -> MortalJournal:
    mortal = MortalJournal.__new__(MortalJournal)
    mortal.__dict__.update(one.journal.__dict__)
    mortal.lines_left = lines
    one.journal = one.reconciler._shared.journal = mortal
    return mortal


def does(host: SimulatedHost, action: str) -> Callable[[], Awaitable[None]]:
    """A `start` or `destroy` of win11, which may be refused."""

    async def happens() -> None:
        with contextlib.suppress(HostFailed):
            await getattr(host.hypervisor, action)("win11")

    return happens


async def life(
    host: SimulatedHost,
    path: Path,
    lines: int,
    happens: Callable[[], Awaitable[None]],
    settings: Settings | None = None,
    *,
    quiet: bool = False,
) -> bool:
    """One life of the daemon while something happens; True if it died at the given line.

    `quiet`: also where it sets the kernel's files for the quiet of CPUs, which is a hundred lines more to die at.
    """
    for folder in () if quiet else QUIET:
        host.kernel.tree.discard(folder)
    ready, done, died = trio.Event(), trio.Event(), False

    async def daemon() -> None:
        nonlocal died
        try:
            async with stable(host, path, settings) as one:
                make_mortal(one, lines)
                ready.set()
                await done.wait()
        except* Killed:
            died = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon)
        await ready.wait()
        await happens()
        await trio.testing.wait_all_tasks_blocked(0.005)
        done.set()
    for kicks in (host.kernel.kicks, host.kernel.usb_kicks, host.hypervisor.kicks):
        kicks.clear()  # nobody listens any more
    return died


async def at_every_line(once: Callable[[int], Awaitable[bool]], *, more_than: int, below: int) -> None:
    """`once`: all that belongs to a life that ends at a line; True if it did. It lives on where there is no such line.

    There have to be more deaths than `more_than` and fewer than `below`.
    """
    deaths = 0
    for line in range(1, below):
        try:
            died = await once(line)
        except AssertionError as error:
            error.add_note(f"killed at line {line}")
            raise
        if not died:
            break
        deaths += 1
    else:
        pytest.fail("the journal never ends")
    assert deaths > more_than
