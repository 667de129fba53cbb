"""What a card is like beside its driver: how it is reset, its power, the sizes of its BARs.

Follows drivers/pci/pci.c, pci-sysfs.c and drivers/base/power/sysfs.c; the function that confirms a behaviour is named
where it is. Errors are OSError with the kernel's number; pci.Blocked where the kernel would not return.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace

from hostlerd.host.simulated import bars
from hostlerd.host.simulated.pci import Device, Pci, fail

VGA = 0x0300
ROOM = 1 << 20
"""MiB of a bridge's window, as the firmware gave it."""


@dataclass(slots=True)
class Card:
    pci: Pci

    def reset(self, address: str, *, below: bool) -> None:
        """reset_store and reset_subordinate_store (of a bridge, for all that is below). ENOTTY: no method works."""
        device = self.pci.device(address)
        hit = [d for d in self.pci.devices.values() if d.spec.bridge == address] if below else [device]
        methods = self.pci.tree.read(f"{device.folder}/reset_method").split() if not below else ["bus"]
        if not below and self._alone(device) is False:
            methods = [method for method in methods if method != "bus"]  # pci_parent_bus_reset
        if not methods:
            raise fail(errno.ENOTTY, f"{device.folder}/reset")
        for one in hit:
            if "bus" in methods and self.pci.faults.get("dead", one.spec.address) == "reset":
                self.pci.faults.lift("dead", one.spec.address)

    def _alone(self, device: Device) -> bool:
        return sum(d.spec.bridge == device.spec.bridge for d in self.pci.devices.values()) == 1

    def reset_method(self, address: str, text: str) -> None:
        """reset_method_store: EINVAL for a method that is not known or that the function does not have."""
        device = self.pci.device(address)
        path = f"{device.folder}/reset_method"
        methods = text.split()
        if methods == ["default"]:
            methods = list(device.spec.resets)
        if not set(methods) <= set(device.spec.resets):
            raise fail(errno.EINVAL, path)
        self.pci.tree.put(path, " ".join(methods) + "\n")

    def power(self, address: str, name: str, text: str) -> None:
        """control_store: "on" wakes it (pm_runtime_forbid); d3cold_allowed_store wakes it, too (pm_runtime_resume)."""
        device = self.pci.device(address)
        if name == "power/control" and text not in ("on", "auto"):
            raise fail(errno.EINVAL, f"{device.folder}/{name}")

        def now() -> None:
            self.pci.tree.put(f"{device.folder}/{name}", f"{text}\n")
            if text in ("on", "0") and self.pci.faults.lift("d3cold", address):
                self.pci.tree.put(f"{device.folder}/power/runtime_status", "active\n")

        if name == "power/control":
            self.pci.locked(device, now)  # control_store takes the device lock
        else:
            now()

    def fall_asleep(self, address: str) -> None:
        folder = self.pci.device(address).folder
        self.pci.tree.put(f"{folder}/power/control", "auto\n")
        self.pci.tree.put(f"{folder}/power/runtime_status", "suspended\n")

    def resize(self, address: str, index: int, text: str) -> None:
        """__resource_resize_store: EBUSY while a driver has it or it has VFs; a boot framebuffer goes first."""
        device = self.pci.device(address)
        path = f"{device.folder}/resource{index}_resize"

        def now() -> None:
            vfs = any(d.spec.physfn == address for d in self.pci.devices.values())
            if device.driver is not None or vfs:
                raise fail(errno.EBUSY, path)
            if device.spec.class_code >> 8 == VGA:
                self.pci.screen.remove(address)
            room = int(self.pci.faults.get("no-room", address) or ROOM)
            device.spec = replace(device.spec, bars=bars.resized(device.spec.bars, index, text, room))
            bars.show(self.pci.tree, device.folder, address, device.spec.bars)

        self.pci.locked(device, now)
