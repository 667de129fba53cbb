"""Host devices in libvirt's hands: taken from their drivers for a domain, opened by its QEMU, given back.

Follows src/hypervisor/virhostdev.c and src/util/virpci.c.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from hostler.errors import HostFailed, Wedged
from hostlerd.host import Writer
from hostlerd.host.simulated.domain_text import PciHostdev
from hostlerd.host.simulated.domains import Domain
from hostlerd.host.simulated.guest_memory import numa_maps
from hostlerd.host.simulated.kernel import Kernel
from hostlerd.host.simulated.pci import Blocked
from hostlerd.model.devices import DEVICES

PIDS = "/run/libvirt/qemu"
"""Of libvirt's pid files (virPidFileBuildPath)."""
BY_FOLDER = 10_000_000
OWN_WRITE_LIMIT = 3600.0
"""libvirtd writes to sysfs itself and hangs with it; an hour stands for ever, as no simulation runs longer."""


def monitor_closed(domain: Domain, words: str) -> HostFailed:
    return HostFailed(
        f"internal error: process exited while connecting to monitor: qemu-system-x86_64: {words}",
        data={"object": domain.name},
    )


class Hostdevs:
    """`active`: address to the domain that has it, libvirt's list of active devices; locked while it changes."""

    def __init__(self, kernel: Kernel, writer: Writer, version: int) -> None:
        self.version = version
        self._kernel = kernel
        self._writer = writer
        self._one = trio.Lock()
        self.active: dict[str, str] = {}

    async def prepare(self, domain: Domain, hostdevs: list[PciHostdev]) -> None:
        """virHostdevPreparePCIDevicesImpl: nothing in use elsewhere, managed ones detached, others must be on VFIO."""
        async with self._one:
            for hostdev in hostdevs:
                self._check_free(domain, hostdev.address)
            done: list[str] = []
            try:
                for hostdev in hostdevs:
                    if hostdev.managed:
                        await self._detach(domain, hostdev.address, done)
                    elif not self._on_vfio(hostdev.address):
                        raise HostFailed(
                            f"Requested operation is not valid: Unmanaged PCI device {hostdev.address} must be "
                            "manually detached from the host"
                        )
            except HostFailed:
                await self._give_back(domain, done)
                raise
            self.active |= {hostdev.address: domain.name for hostdev in hostdevs}

    def prepare_mdevs(self, domain: Domain, uuids: list[str]) -> None:
        """virHostdevPrepareMediatedDevices: virMediatedDeviceNew, virMediatedDeviceListMarkDevices."""
        for uuid in uuids:
            path = f"/sys/bus/mdev/devices/{uuid}"
            if not self._kernel.tree.exists(path):
                raise HostFailed(f"device not found: mediated device '{uuid}' not found")
            if uuid in self.active:
                raise HostFailed(
                    f"Requested operation is not valid: mediated device {path} is in use by driver QEMU, domain "
                    f"{self.active[uuid]}"
                )
        self.active |= dict.fromkeys(uuids, domain.name)

    def _on_vfio(self, address: str) -> bool:
        """virPCIDeviceGetCurrentDriverNameAndType: from 10.0 on by vfio-dev/, until then by vfio-pci's name alone."""
        if self.version < BY_FOLDER:
            return self._kernel.pci.devices[address].driver == "vfio-pci"
        return self._kernel.tree.exists(f"{DEVICES}/{address}/vfio-dev")

    def _check_free(self, domain: Domain, address: str) -> None:
        """virHostdevIsPCINodeDeviceUsed: the device itself by anybody, its group by another domain."""
        if address not in self._kernel.pci.devices:
            raise HostFailed(f"Device {address} not found: could not access {DEVICES}/{address}/config")
        group = self.group(address)
        for other, name in self.active.items():
            shared = group is not None and self.group(other) == group and name != domain.name
            if other == address or shared:
                raise HostFailed(
                    f"Requested operation is not valid: PCI device {other} is in use by driver QEMU, domain {name}"
                )

    async def _detach(self, domain: Domain, address: str, done: list[str]) -> None:
        """virPCIDeviceBindToStub: nothing to do where vfio-pci has it already, and then nothing to undo either."""
        if self._on_vfio(address):
            return
        self._kernel.modprobe(["vfio-pci"])  # virPCIProbeDriver
        done.append(address)
        domain.detached.append(address)
        await self._rebind(address, "vfio-pci")
        if self._kernel.pci.devices[address].driver != "vfio-pci":
            raise HostFailed(f"internal error: Failed to bind PCI device '{address}' to vfio-pci")

    async def reattach(self, domain: Domain, addresses: Iterable[str]) -> None:
        """virHostdevReAttachPCIDevicesImpl: off the list of active ones, back to the host what libvirt took."""
        async with self._one:
            for address in addresses:
                self.active.pop(address, None)
            await self._give_back(domain, addresses)

    async def _give_back(self, domain: Domain, addresses: Iterable[str]) -> None:
        """virPCIDeviceUnbindFromStub: only what libvirt itself had bound; its failures are logged, not raised."""
        for address in [address for address in dict.fromkeys(addresses) if address in domain.detached]:
            domain.detached.remove(address)
            if address in self._kernel.pci.devices:
                try:
                    await self._rebind(address, "\n")
                except HostFailed:
                    continue

    def of(self, domain: Domain) -> list[str]:
        """What is on the list of active devices for it."""
        return [address for address, name in self.active.items() if name == domain.name]

    async def _rebind(self, address: str, override: str) -> None:
        """virPCIDeviceBindWithDriverOverride: override, unbind, drivers_probe."""
        for path, text in self._rebinding(address, override):
            try:
                await self._writer.write(path, text, limit=OWN_WRITE_LIMIT)
            except (OSError, Wedged) as error:
                raise HostFailed(f"Failed to write {path} of PCI device '{address}': {error}") from error

    def _rebinding(self, address: str, override: str) -> list[tuple[str, str]]:
        folder = f"{DEVICES}/{address}"
        steps = [(f"{folder}/driver_override", override)]
        if self._kernel.pci.devices[address].driver is not None:
            steps.append((f"{folder}/driver/unbind", address))
        return [*steps, ("/sys/bus/pci/drivers_probe", address)]

    def open_mdevs(self, domain: Domain, uuids: list[str]) -> None:
        """QEMU opens the groups of its mediated devices (vfio_realize, sysfsdev)."""
        for uuid in uuids:
            mdev = self._kernel.mdevs.devices.get(uuid)
            try:
                if mdev is None:
                    raise monitor_closed(
                        domain, f"vfio {uuid}: no such host device: No such file or directory"
                    )
                self._kernel.pci.open_group(mdev.group, domain.name)
            except OSError as error:
                raise monitor_closed(
                    domain, f"vfio {uuid}: failed to open the group: {error.strerror}"
                ) from error

    def open_groups(self, domain: Domain, hostdevs: list[PciHostdev]) -> None:
        """QEMU opens the groups; it ends with its own words where a group is not viable (vfio_container_connect)."""
        for hostdev in hostdevs:
            group = self.group(hostdev.address)
            try:
                if group is None:
                    raise monitor_closed(domain, f"vfio {hostdev.address}: no iommu_group found")
                self._kernel.pci.open_group(group, domain.name)
                self._kernel.pci.screen.opened_by_vfio(hostdev.address)
            except OSError as error:
                words = (
                    f"group {group} is not viable\nPlease ensure all devices within the iommu_group are bound to "
                    "their vfio bus driver."
                    if isinstance(error, PermissionError)
                    else f"failed to open /dev/vfio/{group}: {error.strerror}"
                )
                raise monitor_closed(domain, f"vfio {hostdev.address}: {words}") from error
        self.show_process(domain)

    def close_groups(self, domain: Domain, keep: Iterable[int] = (), *, ended: bool = False) -> None:
        """QEMU lets go of all groups but `keep`, or has ended."""
        self._kernel.pci.close_groups(domain.name, keep)
        if ended:
            self._kernel.processes.end(domain.pid)
            self._kernel.hugepages.let_go(domain.pages)
            domain.pages = []
            self._kernel.tree.discard(f"{PIDS}/{domain.name}.pid")
        else:
            self.show_process(domain)

    def show_process(self, domain: Domain) -> None:
        """Its QEMU with what it has open."""
        groups = sorted(group for group, owner in self._kernel.pci.owners.items() if owner == domain.name)
        vfio = ["/dev/vfio/vfio", *(f"/dev/vfio/{group}" for group in groups)] if groups else ["/dev/kvm"]
        self._kernel.processes.end(domain.pid)
        self._kernel.processes.start(
            pid=domain.pid,
            command="qemu-system-x86_64",
            uid=64055,
            cgroup=f"/machine.slice/{domain.unit}/libvirt/emulator",
            paths=[*vfio, *self._kernel.usb.nodes(domain.name)],
            arguments=("-name", f"guest={domain.name}", "-uuid", domain.uuid),
            numa_maps=numa_maps(domain.memory),
            huge_kib=sum(size * pages for _, size, pages in domain.pages),
        )
        self._kernel.tree.put(f"{PIDS}/{domain.name}.pid", f"{domain.pid}\n")
        self._kernel.threads.show(domain.pid)

    def group(self, address: str) -> int | None:
        device = self._kernel.pci.devices.get(address)
        return device.spec.group if device is not None else None

    def put_back(self, address: str) -> None:
        for path, text in self._rebinding(address, "\n"):
            try:
                self._kernel.write(path, text)
            except (OSError, Blocked):
                return
