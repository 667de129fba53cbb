"""SR-IOV: virtual functions that a driver makes and takes away, and what hangs then.

Follows drivers/pci/iov.c of Linux 6.1 to 6.12; the function that confirms a behaviour is named where it is. Errors are
OSError with the kernel's number; pci.Blocked where the kernel would not return.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import partial

from hostlerd.host.simulated import functions
from hostlerd.host.simulated.drivers import Nodes
from hostlerd.host.simulated.functions import FunctionSpec
from hostlerd.host.simulated.pci import Blocked, Device, Pci, Ticket, fail


@dataclass(slots=True)
class VirtualFunctions:
    pci: Pci

    def write(self, address: str, text: str) -> None:
        """sriov_numvfs_store: EBUSY when there are some and more are asked for, ERANGE above the total."""
        device = self.pci.device(address)
        path = f"{device.folder}/sriov_numvfs"
        if not text.isdecimal():
            raise fail(errno.EINVAL, path)
        wanted = int(text)
        if wanted > device.spec.total_vfs:
            raise fail(errno.ERANGE, path)
        self.pci.locked(device, lambda: self._set(device, wanted, path))

    def _set(self, device: Device, wanted: int, path: str) -> None:
        vfs = self._of(device)
        if wanted == len(vfs):
            return
        if device.driver is None or self.pci.drivers[device.driver].nodes is Nodes.VFIO:
            raise fail(errno.ENOENT, path)  # no driver, or one that makes none
        if wanted and vfs:
            raise fail(errno.EBUSY, path)
        if wanted:
            for index in range(wanted):
                self._make(device, index)
        else:
            self._take(device, vfs, path)
        self.pci.tree.put(path, f"{wanted}\n")

    def _of(self, device: Device) -> list[str]:
        return [d.spec.address for d in self.pci.devices.values() if d.spec.physfn == device.spec.address]

    def _make(self, device: Device, index: int) -> None:
        """pci_iov_add_virtfn; its address is pci_iov_virtfn_bus and pci_iov_virtfn_devfn."""
        above = device.spec
        domain, bus, rest = above.address.split(":")
        slot, function = (int(part, 16) for part in rest.split("."))
        routing = (int(bus, 16) << 8 | slot << 3 | function) + above.vf_offset + above.vf_stride * index
        address = f"{domain}:{routing >> 8:02x}:{routing >> 3 & 31:02x}.{routing & 7}"
        spec = FunctionSpec(
            address=address,
            vendor=above.vendor,
            device=above.device if above.vf_device is None else above.vf_device,
            class_code=above.class_code,
            bridge=above.bridge,
            group=functions.next_group(self.pci.tree),
            numa_node=above.numa_node,
            physfn=above.address,
        )
        self.pci.appear(spec)
        self.pci.tree.link(f"{device.folder}/virtfn{index}", self.pci.devices[address].folder)
        self.pci.initial_probe(address)

    def _take(self, device: Device, vfs: list[str], path: str) -> None:
        """sriov_disable, sriov_del_vfs: one after the other. Where a VF's remove() waits, the PF's lock is held."""
        for index, vf in enumerate(vfs):
            self.pci.tree.discard(f"{device.folder}/virtfn{index}")
            try:
                self.pci.vanish(vf)
            except Blocked as blocked:
                device.stuck = True
                self.pci.tree.locked.add(path)
                waits = Ticket(device.spec.address)
                blocked.ticket.then.append(partial(self._go_on_taking, device, path, waits))
                raise Blocked(waits) from blocked

    def _go_on_taking(self, device: Device, path: str, waits: Ticket) -> None:
        device.stuck = False
        self.pci.tree.locked.discard(path)
        self.pci.tree.put(path, "0\n")
        left = self._of(device)
        for number in range(device.spec.total_vfs):
            self.pci.tree.discard(f"{device.folder}/virtfn{number}")
        for vf in left:
            self.pci.vanish(vf)
        waits.end(None)
