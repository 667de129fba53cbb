"""The built-in hosts: which processors, which cards, which drivers. Descriptions only; `host` makes them live.

Longer than 400 lines because every function of every host is a few lines of facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hostler.errors import BadInput
from hostlerd.host.simulated.bars import Bar
from hostlerd.host.simulated.cpus import Processors
from hostlerd.host.simulated.functions import FunctionSpec
from hostlerd.host.simulated.mdevs import ParentSpec, TypeSpec
from hostlerd.host.simulated.screen import ScreenSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """`drivers`: those that exist on it, in the order of the bus; `not_loaded`: of these, waiting for modprobe.

    `cards`: what can be plugged in, by name.
    """

    name: str
    processors: Processors
    functions: tuple[FunctionSpec, ...]
    drivers: tuple[str, ...]
    not_loaded: tuple[str, ...] = ("vfio-pci",)
    cards: Mapping[str, tuple[FunctionSpec, ...]] = field(default_factory=dict)
    mdevs: tuple[ParentSpec, ...] = ()
    release: str = "6.1.0-sim"
    libvirt: int = 9_000_000
    """As virConnectGetLibVersion has it."""
    vendor: str = "AuthenticAMD"
    """Of the processor, as /proc/cpuinfo has it."""
    clocks: bool = False
    """It has cpufreq."""
    iommu: bool = True
    unified: bool = True
    screen: ScreenSpec | None = None
    """The boot framebuffer; as a rule there is none left, as the card's own driver has taken the screen."""


def _port(
    address: str, group: int, *, vendor: int = 0x1022, device: int = 0x1483, numa_node: int = -1
) -> FunctionSpec:
    return FunctionSpec(
        address=address, vendor=vendor, device=device, class_code=0x060400, group=group, numa_node=numa_node
    )


_DESKTOP_FUNCTIONS = (
    # The card's port shares its group, as on most consumer boards: bridges do not count for viability.
    _port("0000:00:01.0", 14),
    _port("0000:00:01.1", 15),
    _port("0000:00:02.0", 17),
    _port("0000:00:02.1", 17),
    _port("0000:00:03.0", 19),
    _port("0000:00:08.0", 20),
    FunctionSpec(
        address="0000:01:00.0",
        vendor=0x1002,
        device=0x73BF,
        class_code=0x030000,
        subsystem_vendor=0x1DA2,
        subsystem_device=0xE438,
        bridge="0000:00:01.0",
        group=14,
        boot_vga=False,
        resets=("flr", "bus"),
        bars=(
            Bar(index=0, size=256, sizes=0b0111_1111_0000_0000),
            Bar(index=2, size=2, sizes=0b0001_1111_1110),
        ),
    ),
    FunctionSpec(
        address="0000:01:00.1",
        vendor=0x1002,
        device=0xAB28,
        class_code=0x040300,
        bridge="0000:00:01.0",
        group=14,
    ),
    FunctionSpec(
        address="0000:01:00.2",
        vendor=0x1002,
        device=0x73A6,
        class_code=0x0C0330,
        bridge="0000:00:01.0",
        group=14,
    ),
    FunctionSpec(
        address="0000:01:00.3",
        vendor=0x1002,
        device=0x73A4,
        class_code=0x0C8000,
        bridge="0000:00:01.0",
        group=14,
    ),
    FunctionSpec(
        address="0000:02:00.0",
        vendor=0x144D,
        device=0xA80A,
        class_code=0x010802,
        bridge="0000:00:01.1",
        group=15,
    ),
    # The chipset's ports give no isolation: the network card and the SATA controller share a group.
    FunctionSpec(
        address="0000:05:00.0",
        vendor=0x10EC,
        device=0x8125,
        class_code=0x020000,
        bridge="0000:00:02.0",
        group=17,
    ),
    FunctionSpec(
        address="0000:06:00.0",
        vendor=0x1022,
        device=0x43EB,
        class_code=0x010601,
        bridge="0000:00:02.1",
        group=17,
    ),
    FunctionSpec(
        address="0000:0b:00.0",
        vendor=0x1002,
        device=0x164E,
        class_code=0x030000,
        bridge="0000:00:08.0",
        group=21,
        boot_vga=True,
    ),
    FunctionSpec(
        address="0000:0b:00.1",
        vendor=0x1002,
        device=0x1640,
        class_code=0x040300,
        bridge="0000:00:08.0",
        group=22,
    ),
    FunctionSpec(
        address="0000:0b:00.3",
        vendor=0x1022,
        device=0x15B6,
        class_code=0x0C0330,
        bridge="0000:00:08.0",
        group=23,
    ),
)

_SECOND_CARD = (
    FunctionSpec(
        address="0000:04:00.0",
        vendor=0x10DE,
        device=0x2204,
        class_code=0x030000,
        subsystem_vendor=0x1043,
        subsystem_device=0x87B3,
        bridge="0000:00:03.0",
        group=30,
        boot_vga=False,
    ),
    FunctionSpec(
        address="0000:04:00.1",
        vendor=0x10DE,
        device=0x1AEF,
        class_code=0x040300,
        bridge="0000:00:03.0",
        group=30,
    ),
)

DESKTOP = HostSpec(
    name="desktop",
    clocks=True,
    # One cache is three times the other, as on a processor with stacked cache on one die.
    processors=Processors(l3_kib=(98304, 32768), cores_per_l3=4, max_mhz=(5250, 5700)),
    functions=_DESKTOP_FUNCTIONS,
    drivers=(
        "pcieport",
        "ahci",
        "nvme",
        "xhci_hcd",
        "r8169",
        "amdgpu",
        "snd_hda_intel",
        "i2c-designware-pci",
        "nvidia",
        "vfio-pci",
    ),
    not_loaded=("nvidia", "vfio-pci"),
    cards={"second": _SECOND_CARD},
)
"""8 cores, 16 threads, two level-3 caches. Guest's card 0000:01:00, host's own display 0000:0b:00.0."""

_Q35_PORT = 0x000C


def _lab(address: str, port: int, group: int, ids: tuple[int, int, int], **more: Any) -> FunctionSpec:
    """Behind the root port of that number. `ids`: vendor, device, class."""
    vendor, device, class_code = ids
    return FunctionSpec(
        address=address,
        vendor=vendor,
        device=device,
        class_code=class_code,
        subsystem_vendor=0x1AF4,
        subsystem_device=0x1100,
        bridge=f"0000:00:{port:02x}.0",
        group=group,
        **more,
    )


LAB = HostSpec(
    name="lab",
    processors=Processors(
        l3_kib=(16384, 16384), cores_per_l3=2, split=False, nodes_by="l3", memory_gib=4, max_mhz=(0,)
    ),
    functions=(
        FunctionSpec(address="0000:00:00.0", vendor=0x8086, device=0x29C0, class_code=0x060000, group=0),
        *(_port(f"0000:00:{n:02x}.0", n, vendor=0x1B36, device=_Q35_PORT) for n in range(1, 7)),
        FunctionSpec(address="0000:00:07.0", vendor=0x1AF4, device=0x1009, class_code=0x000200, group=7),
        FunctionSpec(address="0000:00:08.0", vendor=0x1AF4, device=0x1001, class_code=0x010000, group=8),
        FunctionSpec(address="0000:00:1f.0", vendor=0x8086, device=0x2918, class_code=0x060100, group=9),
        FunctionSpec(address="0000:00:1f.2", vendor=0x8086, device=0x2922, class_code=0x010601, group=9),
        FunctionSpec(address="0000:00:1f.3", vendor=0x8086, device=0x2930, class_code=0x0C0500, group=9),
        _lab("0000:01:00.0", 1, 10, (0x1002, 0x5046, 0x030000), boot_vga=True),
        _lab("0000:01:00.1", 1, 10, (0x8086, 0x2668, 0x040300)),
        _lab("0000:02:00.0", 2, 11, (0x1234, 0x1111, 0x038000), bars=(Bar(index=0, size=16),)),
        _lab("0000:03:00.0", 3, 12, (0x1B36, 0x000D, 0x0C0330)),
        _lab("0000:05:00.0", 5, 13, (0x1B36, 0x0010, 0x010802), total_vfs=4),
        _lab("0000:06:00.0", 6, 14, (0x1B36, 0x000E, 0x060400)),
        # A conventional bus gives the IOMMU one requester for all.
        replace(_lab("0000:07:01.0", 6, 14, (0x8086, 0x2668, 0x040300)), bridge="0000:06:00.0"),
        replace(_lab("0000:07:02.0", 6, 14, (0x8086, 0x100E, 0x020000)), bridge="0000:06:00.0"),
    ),
    drivers=(
        "pcieport",
        "virtio-pci",
        "ahci",
        "lpc_ich",
        "i801_smbus",
        "nvme",
        "xhci_hcd",
        "bochs-drm",
        "snd_hda_intel",
        "e1000",
        "vfio-pci",
        "labvfio",
    ),
    not_loaded=("vfio-pci", "labvfio"),
    cards={"second": (_lab("0000:04:00.0", 4, 15, (0x1234, 0x1111, 0x038000)),)},
    vendor="GenuineIntel",
)
"""The lab's guest (tests/lab/hardware.py) as Linux 6.1 numbers it: 4 cores in SMT pairs, two L3 caches, two nodes."""


SCREEN = replace(
    LAB,
    name="screen",
    drivers=tuple(name for name in LAB.drivers if name != "bochs-drm"),
    screen=ScreenSpec(card="0000:02:00.0"),
)
"""The same, booted by OVMF and with bochs blacklisted: the console is on the boot framebuffer, in 02:00.0's memory."""


def _server_card(bus: str, port: str, group: int, node: int) -> tuple[FunctionSpec, ...]:
    return (
        _port(port, group - 1, numa_node=node),
        FunctionSpec(
            address=f"0000:{bus}:00.0",
            vendor=0x10DE,
            device=0x26B9,
            class_code=0x030200,
            bridge=port,
            group=group,
            numa_node=node,
        ),
    )


SERVER = HostSpec(
    name="server",
    processors=Processors(
        sockets=2, l3_kib=(32768, 32768), cores_per_l3=8, nodes_by="socket", memory_gib=256, max_mhz=(3700,)
    ),
    functions=(
        *_server_card("41", "0000:40:01.1", 41, 0),
        *_server_card("c1", "0000:c0:01.1", 81, 1),
        _port("0000:00:01.0", 10, numa_node=0),
        FunctionSpec(
            address="0000:02:00.0",
            vendor=0x1A03,
            device=0x2000,
            class_code=0x030000,
            bridge="0000:00:01.0",
            group=11,
            numa_node=0,
            boot_vga=True,
        ),
        FunctionSpec(
            address="0000:02:00.1",
            vendor=0x8086,
            device=0x1521,
            class_code=0x020000,
            bridge="0000:00:01.0",
            group=12,
            numa_node=0,
        ),
        FunctionSpec(
            address="0000:c0:02.0", vendor=0x144D, device=0xA80A, class_code=0x010802, group=90, numa_node=1
        ),
    ),
    release="6.12.0-sim",
    libvirt=11_003_000,
    drivers=("pcieport", "nvme", "igb", "nvidia", "vfio-pci"),
)
"""Two sockets, two nodes, 64 CPUs, a card at each node."""

_GIB = 1024
SLICES = HostSpec(
    name="slices",
    processors=Processors(l3_kib=(32768, 32768), cores_per_l3=4, memory_gib=64, max_mhz=(4200,)),
    functions=(
        _port("0000:00:01.0", 1),
        _port("0000:00:01.1", 2),
        FunctionSpec(
            address="0000:00:02.0", vendor=0x8086, device=0x3E92, class_code=0x030000, group=3, boot_vga=True
        ),
        FunctionSpec(
            address="0000:05:00.0",
            vendor=0x144D,
            device=0xA824,
            class_code=0x010802,
            bridge="0000:00:01.0",
            group=4,
            total_vfs=4,
        ),
        FunctionSpec(
            address="0000:41:00.0",
            vendor=0x10DE,
            device=0x26B9,
            class_code=0x030200,
            bridge="0000:00:01.1",
            group=5,
            total_vfs=32,
            vf_offset=4,
            vgpu_types=(
                (1145, "NVIDIA L40S-1B", 1 * _GIB),
                (1148, "NVIDIA L40S-12Q", 12 * _GIB),
                (1149, "NVIDIA L40S-24Q", 24 * _GIB),
                (1151, "NVIDIA L40S-48Q", 48 * _GIB),
            ),
            vgpu_memory=48 * _GIB,
        ),
    ),
    drivers=("pcieport", "nvme", "i915", "nvidia", "vfio-pci"),
    mdevs=(
        ParentSpec(
            name="0000:00:02.0",
            types=(
                TypeSpec(id="i915-GVTg_V5_4", name="GVTg_V5_4", description="low_gm_size: 128MB", takes=2),
                TypeSpec(id="i915-GVTg_V5_8", name="GVTg_V5_8", description="low_gm_size: 64MB", takes=1),
            ),
            has=2,
        ),
        ParentSpec(
            name="mbochs",
            types=(
                TypeSpec(
                    id="mbochs-large",
                    name="large",
                    description="virtual display, 64 MB video memory",
                    takes=64,
                ),
                TypeSpec(
                    id="mbochs-medium",
                    name="medium",
                    description="virtual display, 16 MB video memory",
                    takes=16,
                ),
                TypeSpec(
                    id="mbochs-small",
                    name="small",
                    description="virtual display, 4 MB video memory",
                    takes=4,
                    attribute="vendor/memory",
                ),
            ),
            has=256,
        ),
    ),
    libvirt=11_003_000,
    release="6.12.0-sim",
    vendor="GenuineIntel",
)
"""What can be cut in slices: an integrated GPU and the kernel's sample (mediated devices), an NVMe drive with SR-IOV,
and a card of NVIDIA's whose VFs become vGPUs."""

BUILT_IN = {
    spec.name: spec
    for spec in (
        DESKTOP,
        LAB,
        SERVER,
        SLICES,
        SCREEN,
        replace(DESKTOP, name="no-iommu", iommu=False),
        replace(DESKTOP, name="cgroup-v1", unified=False),
    )
}


def find(name: str) -> HostSpec:
    """Raises BadInput."""
    if name not in BUILT_IN:
        raise BadInput(f"no simulated host is called {name!r}", remedy=f"one of {', '.join(BUILT_IN)}")
    return BUILT_IN[name]
