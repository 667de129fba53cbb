"""One observation: every observer, put together, and no way to hang.

What may block (a device's attributes) is read where it can be abandoned, and says which device it is at: if it does not
come back, that device is degraded and the rest is observed without it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from hostler.errors import HostlerError, TimedOut
from hostlerd.host import Files, Host
from hostlerd.model.cpus import Topology
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.devices import Function
from hostlerd.model.domains import Snapshot
from hostlerd.model.isolation import HOST_UNITS, MACHINE_SLICE, Group, Groups
from hostlerd.model.ledger import Ledger, Trouble
from hostlerd.model.observed import Observed
from hostlerd.model.slices import Slices
from hostlerd.model.usb import UsbDevice
from hostlerd.observe.cpus import observe_cpus
from hostlerd.observe.groups import observe_groups
from hostlerd.observe.pci import observe_drivers, observe_functions, observe_kernel
from hostlerd.observe.slices import observe_slices
from hostlerd.observe.threads import observe_affinity
from hostlerd.observe.usb import Serials, observe_usb

LIMIT = 5.0
"""Seconds for everything that is read; some thousand small files."""


class Troubles(Protocol):
    """What is kept of the journal here."""

    @property
    def ledger(self) -> Ledger: ...

    def trouble(self, trouble: Trouble) -> None: ...


@dataclass(slots=True)
class _Progress:
    at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    functions: Mapping[str, Function]
    slices: Slices
    topology: Topology
    groups: Groups
    drivers: frozenset[str]
    kernel: tuple[int, int]
    rule: str | None
    usb: Mapping[str, UsbDevice]


def _read(files: Files, unreadable: frozenset[str], progress: _Progress, rule: str) -> _Read:
    def at(address: str) -> None:
        progress.at = address

    functions = observe_functions(files, unreadable=unreadable, progress=at)
    slices = observe_slices(files, functions, unreadable=unreadable, progress=at)
    progress.at = ""
    topology = observe_cpus(files)
    try:
        text: str | None = files.read(rule)
    except OSError:
        text = None
    return _Read(
        functions=functions,
        slices=slices,
        topology=topology,
        groups=observe_groups(files, topology),
        drivers=observe_drivers(files),
        kernel=observe_kernel(files),
        rule=text,
        usb=observe_usb(files),
    )


class Everything:
    """Observes a live or a simulated host. `rule`: path of our udev rule file."""

    def __init__(self, host: Host, rule: str) -> None:
        self._host, self._rule = host, rule
        self._serials = Serials(host)

    async def __call__(self, journal: Troubles, snapshot: Snapshot) -> Observed:
        while True:
            ledger = journal.ledger
            stuck = (step.object for step in ledger.outstanding.values())
            unreadable = frozenset(ledger.troubles) | frozenset(stuck)
            progress = _Progress()
            try:
                read = await self._host.look(
                    lambda: _read(self._host.files, unreadable, progress, self._rule),  # noqa: B023
                    limit=LIMIT,
                )
            except TimedOut:
                if not progress.at:
                    raise
                journal.trouble(_hangs(progress.at))
            else:
                found = Observed(
                    topology=read.topology,
                    functions=read.functions,
                    slices=read.slices,
                    groups=await self._with_properties(read.groups),
                    snapshot=snapshot,
                    ledger=journal.ledger,
                    drivers=read.drivers,
                    kernel=read.kernel,
                    rule=read.rule,
                    usb=await self._serials.added(read.usb),
                )
                return replace(found, affinity=await look_at_affinity(self._host, found))

    async def _with_properties(self, groups: Groups) -> Groups:
        """AllowedCPUs as systemd has it: what the kernel shows may be a mask that is no longer asked for."""
        if not groups.unified:
            return groups
        known = {group.unit: group for group in groups.units}
        for unit in (*HOST_UNITS, MACHINE_SLICE):
            known.setdefault(unit, Group(unit=unit, allowed=frozenset(), effective=frozenset()))
        try:
            allowed = await self._host.units.allowed_cpus(tuple(known))
        except HostlerError:
            return groups  # no systemd to ask: what the control groups show has to do
        units = tuple(replace(g, allowed=allowed.get(u, frozenset())) for u, g in known.items())
        return replace(groups, units=units)


async def look_at_affinity(host: Host, observed: Observed) -> Mapping[str, Mapping[int, CpuSet]]:
    """Of the threads of its snapshot's domains. What cannot be looked at in time is not known."""
    try:
        return await host.look(
            lambda: observe_affinity(host.files, observed, observed.snapshot.running), limit=LIMIT
        )
    except TimedOut:
        return {}


def _hangs(address: str) -> Trouble:
    return Trouble(
        object=address,
        reason=f"reading {address} hangs: another program's write to it has not returned from the kernel",
        remedy="see which process is stuck with `ps`; as a rule only a restart of the host ends it",
        since=time.time(),
        wedged=True,
    )
