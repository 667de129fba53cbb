"""Several libvirt connections as one host.Hypervisor.

One that is away makes the whole answer unknown: "not listed" must never be taken for "does not run".
"""

from __future__ import annotations

from collections.abc import Sequence

from hostler.errors import HostFailed
from hostlerd.host import Hypervisor
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.domains import Definition, Running
from hostlerd.model.usb import UsbDevice


class Hypervisors:
    """What is about one domain goes to the connection that listed it last."""

    def __init__(self, connections: Sequence[Hypervisor]) -> None:
        self._connections = tuple(connections)
        self._of: dict[str, Hypervisor] = {}

    async def running(self) -> tuple[Running, ...]:
        found: list[Running] = []
        of: dict[str, Hypervisor] = {}
        for connection in self._connections:
            domains = await connection.running()
            found += domains
            of |= dict.fromkeys((domain.uuid for domain in domains), connection)
        self._of |= of
        return tuple(found)

    async def inactive(self) -> tuple[Definition, ...]:
        found: list[Definition] = []
        for connection in self._connections:
            domains = await connection.inactive()
            found += domains
            self._of |= dict.fromkeys((domain.uuid for domain in domains), connection)
        return tuple(found)

    async def version(self) -> int:
        """The oldest one's."""
        return min([await connection.version() for connection in self._connections], default=0)

    async def pin_vcpu(self, uuid: str, vcpu: int, cpus: CpuSet) -> None:
        await self._connection(uuid).pin_vcpu(uuid, vcpu, cpus)

    async def pin_emulator(self, uuid: str, cpus: CpuSet) -> None:
        await self._connection(uuid).pin_emulator(uuid, cpus)

    async def pin_iothread(self, uuid: str, iothread: int, cpus: CpuSet) -> None:
        await self._connection(uuid).pin_iothread(uuid, iothread, cpus)

    async def definition_xml(self, uuid: str) -> str:
        return await self._connection(uuid).definition_xml(uuid)

    async def redefine(self, uuid: str, xml: str) -> None:
        await self._connection(uuid).redefine(uuid, xml)

    async def plug(self, uuid: str, device: str) -> None:
        await self._connection(uuid).plug(uuid, device)

    async def unplug(self, uuid: str, device: str) -> None:
        await self._connection(uuid).unplug(uuid, device)

    async def attach_usb(self, uuid: str, device: UsbDevice) -> Definition:
        return await self._connection(uuid).attach_usb(uuid, device)

    async def detach_usb(self, uuid: str, device: UsbDevice) -> Definition:
        return await self._connection(uuid).detach_usb(uuid, device)

    def _connection(self, uuid: str) -> Hypervisor:
        """Raises HostFailed for a domain that no connection listed."""
        try:
            return self._of[uuid]
        except KeyError:
            raise HostFailed(f"no libvirt connection has the domain {uuid}", data={"object": uuid}) from None
