"""PCI functions: what describes one, and the files that sysfs shows for it before any driver is bound.

drivers/pci/pci-sysfs.c names the attributes. Addresses are canonical (`0000:01:00.0`).
"""

from __future__ import annotations

from dataclasses import dataclass

from hostlerd.host.simulated import bars
from hostlerd.host.simulated.bars import Bar
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.devices import DEVICES

DRIVERS = "/sys/bus/pci/drivers"
GROUPS = "/sys/kernel/iommu_groups"
NO_OVERRIDE = "(null)\n"
"""What driver_override reads as when none is set: sysfs_emit of a null pointer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """`bridge`: address of the bridge above it, None on the root bus. `class_code`: 24 bits. `group`: IOMMU group.

    `boot_vga`: None for what is no VGA controller (the file is absent). `physfn`: address of the PF of a VF.
    `vf_device`: device id of its VFs, its own if None. `vgpu_types`: number, name and MiB of the vGPUs its VFs can be.
    """

    address: str
    vendor: int
    device: int
    class_code: int
    subsystem_vendor: int = 0
    subsystem_device: int = 0
    bridge: str | None = None
    group: int | None = None
    numa_node: int = -1
    boot_vga: bool | None = None
    physfn: str | None = None
    total_vfs: int = 0
    vf_offset: int = 1
    vf_stride: int = 1
    vf_device: int | None = None
    vgpu_types: tuple[tuple[int, str, int], ...] = ()
    vgpu_memory: int = 0
    label: str | None = None
    bars: tuple[Bar, ...] = ()
    resets: tuple[str, ...] = ("bus",)
    """What reset_method offers."""

    @property
    def is_bridge(self) -> bool:
        return self.class_code >> 8 == 0x0604

    @property
    def modalias(self) -> str:
        base, sub, interface = self.class_code >> 16, self.class_code >> 8 & 0xFF, self.class_code & 0xFF
        return (
            f"pci:v{self.vendor:08X}d{self.device:08X}sv{self.subsystem_vendor:08X}"
            f"sd{self.subsystem_device:08X}bc{base:02X}sc{sub:02X}i{interface:02X}"
        )


def uevent(spec: FunctionSpec, driver: str | None) -> str:
    """pci_uevent, with the driver core's DRIVER= in front."""
    lines = [f"DRIVER={driver}"] if driver else []
    lines += [
        f"PCI_CLASS={spec.class_code:X}",
        f"PCI_ID={spec.vendor:04X}:{spec.device:04X}",
        f"PCI_SUBSYS_ID={spec.subsystem_vendor:04X}:{spec.subsystem_device:04X}",
        f"PCI_SLOT_NAME={spec.address}",
        f"MODALIAS={spec.modalias}",
    ]
    return "".join(line + "\n" for line in lines)


def show(tree: Tree, spec: FunctionSpec, folder: str) -> None:
    """Make the function's folder, its place on the bus and its IOMMU group."""
    files: dict[str, str | None] = {
        "vendor": f"0x{spec.vendor:04x}\n",
        "device": f"0x{spec.device:04x}\n",
        "class": f"0x{spec.class_code:06x}\n",
        "revision": "0x00\n",
        "subsystem_vendor": f"0x{spec.subsystem_vendor:04x}\n",
        "subsystem_device": f"0x{spec.subsystem_device:04x}\n",
        "numa_node": f"{spec.numa_node}\n",
        "driver_override": NO_OVERRIDE,
        "enable": "0\n",
        "irq": "0\n",
        "modalias": spec.modalias + "\n",
        "uevent": uevent(spec, None),
        "d3cold_allowed": "1\n",
        "reset_method": " ".join(spec.resets) + "\n",
        "config": "",
        "power/control": "on\n",
        "power/runtime_status": "active\n",
        "remove": None,
        "rescan": None,
        "reset": None,
    }
    if spec.boot_vga is not None:
        files["boot_vga"] = f"{int(spec.boot_vga)}\n"
    if spec.label is not None:
        files["label"] = f"{spec.label}\n"
    if spec.total_vfs:
        files |= {
            "sriov_totalvfs": f"{spec.total_vfs}\n",
            "sriov_numvfs": "0\n",
            "sriov_offset": f"{spec.vf_offset}\n",
            "sriov_stride": f"{spec.vf_stride}\n",
            "sriov_drivers_autoprobe": "1\n",
        }
    if spec.is_bridge:
        files["reset_subordinate"] = None
    bars.show(tree, folder, spec.address, spec.bars)
    for name, content in files.items():
        tree.put(f"{folder}/{name}", content)
    tree.link(f"{folder}/subsystem", "/sys/bus/pci")
    tree.link(f"{DEVICES}/{spec.address}", folder)
    if spec.group is not None:
        group = f"{GROUPS}/{spec.group}"
        tree.put(f"{group}/type", "DMA-FQ\n")
        tree.put(f"{group}/reserved_regions", "0x00000000fee00000 0x00000000feefffff msi\n")
        tree.link(f"{group}/devices/{spec.address}", folder)
        tree.link(f"{folder}/iommu_group", group)
    if spec.physfn is not None:
        tree.link(f"{folder}/physfn", tree.real(f"{DEVICES}/{spec.physfn}"))


def next_group(tree: Tree) -> int:
    """Of a device that comes now (iommu_group_alloc): PCI functions and mediated devices have numbers of one kind."""
    return max((int(name) for name in tree.listdir(GROUPS)), default=-1) + 1


def hide(tree: Tree, spec: FunctionSpec, folder: str) -> None:
    """The function is gone; its group goes with its last member (iommu_group_release)."""
    tree.discard(f"{DEVICES}/{spec.address}")
    tree.discard(folder)
    if spec.group is not None:
        group = f"{GROUPS}/{spec.group}"
        tree.discard(f"{group}/devices/{spec.address}")
        if not tree.listdir(f"{group}/devices"):
            tree.discard(group)
