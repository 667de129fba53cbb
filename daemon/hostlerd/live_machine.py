"""The live host as the daemon's machine: files, the writer process, systemd and polkit over the bus, libvirt, udev.

The bus is a comfort: without it there is no isolation and no D-Bus face, but the socket is served and devices are
handed over. It is opened first, since systemd is behind it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import trio

from hostler.errors import BadInput
from hostlerd.api import Service
from hostlerd.api import bus as bus_face
from hostlerd.api.authorize import Authorizer
from hostlerd.host.bus import Bus
from hostlerd.host.engines import LiveEngines
from hostlerd.host.files import RootFiles
from hostlerd.host.hypervisors import Hypervisors
from hostlerd.host.libvirt import Libvirt
from hostlerd.host.logind import Logind
from hostlerd.host.notify import Notify
from hostlerd.host.pressure import LivePressure
from hostlerd.host.processes import LiveProcesses
from hostlerd.host.systemd import SystemdUnits
from hostlerd.host.threads import in_thread
from hostlerd.host.writer import LiveWriter
from hostlerd.machine import Machine
from hostlerd.model.settings import Settings
from hostlerd.observe.domain_xml import parse_domain
from hostlerd.options import Options
from hostlerd.settings import load
from hostlerd.sources import libvirt as libvirt_source
from hostlerd.sources import partitions as partitions_source
from hostlerd.sources import programs as programs_source
from hostlerd.sources import threads as threads_source
from hostlerd.sources import udev as udev_source

log = logging.getLogger(__name__)

T = TypeVar("T")


class LiveHost:
    """host.Host of the real thing."""

    def __init__(self, bus: Bus, uris: Sequence[str]) -> None:
        self.files = RootFiles("/")
        self.units = SystemdUnits(bus)
        self.engines = LiveEngines(activate=self.units.activate)
        self.writer = LiveWriter(adopt=self._adopt)
        self.processes = LiveProcesses()
        self.sleep = Logind(bus)
        self.pressure = LivePressure()
        self.connections = tuple(Libvirt(uri, parse=parse_domain) for uri in uris)
        self.hypervisor = Hypervisors(self.connections)

    async def look(self, read: Callable[[], T], *, limit: float) -> T:
        return await in_thread(read, limit=limit, what="reading the host")

    async def _adopt(self, pid: int) -> None:
        await self.units.start_scope(f"hostler-write-{pid}.scope", [pid], "A write of hostler to the kernel")


def _uris(options: Options) -> tuple[str, ...]:
    """Whom to connect to is settled at the start; a policy that cannot be read is told of by hostlerd.policy."""
    try:
        return load(options.policy, options.policy_directory).libvirt
    except BadInput:
        return Settings().libvirt


@asynccontextmanager
async def open_live(options: Options) -> AsyncIterator[Machine]:
    bus = Bus(None if options.bus == "system" else options.bus)
    host = LiveHost(bus, _uris(options))

    async def face(service: Service) -> None:
        await bus_face.serve(bus, service)

    async with trio.open_nursery() as nursery:
        await nursery.start(bus.run)
        yield Machine(
            host=host,
            boot=host.files.read("/proc/sys/kernel/random/boot_id").strip(),
            authorize=Authorizer(bus),
            notify=Notify(),
            device_sources=(udev_source.run, udev_source.run_usb, programs_source.run, partitions_source.run),
            domain_sources=(
                *(partial(libvirt_source.run, connection) for connection in host.connections),
                threads_source.run,
            ),
            faces=(face,),
        )
        await host.writer.aclose()
        nursery.cancel_scope.cancel()
