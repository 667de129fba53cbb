"""What a simulated PCI driver is: which devices it takes, what it makes while bound, how it lets go.

Pure values; binding and letting go are in `pci`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Nodes(StrEnum):
    """What a driver makes below a device while it is bound."""

    NONE = "none"
    DRM = "drm"
    NVIDIA = "nvidia"
    SOUND = "sound"
    NET = "net"
    NVME = "nvme"
    VFIO = "vfio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Id:
    """One row of a driver's table; None is any. `class_code` is compared from the left, as long as it is."""

    vendor: int | None = None
    device: int | None = None
    class_code: int | None = None
    class_digits: int = 6

    def matches(self, vendor: int, device: int, class_code: int) -> bool:
        if self.class_code is not None and class_code >> (24 - 4 * self.class_digits) != self.class_code:
            return False
        return self.vendor in (None, vendor) and self.device in (None, device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """`module`: what modprobe loads. `waits`: remove() waits until nobody holds the device.

    `own_dma`: manages DMA itself (driver_managed_dma), so it may bind in a group that a domain has open.
    `takes_any`: does not look at the hardware when an override aims it there.
    """

    name: str
    module: str
    ids: tuple[Id, ...] = ()
    nodes: Nodes = Nodes.NONE
    waits: bool = False
    own_dma: bool = False
    built_in: bool = False
    takes_any: bool = False
    vfio_alias: str = ""
    """What modules.alias has of it behind `vfio_pci:`."""


VFIO_PCI = Driver(
    name="vfio-pci",
    module="vfio_pci",
    nodes=Nodes.VFIO,
    waits=True,
    own_dma=True,
    vfio_alias="v*d*sv*sd*bc*sc*i*",
)

KNOWN: tuple[Driver, ...] = (
    Driver(
        name="pcieport",
        module="pcieportdrv",
        ids=(Id(class_code=0x0604, class_digits=4),),
        built_in=True,
        own_dma=True,
    ),
    Driver(
        name="amdgpu",
        module="amdgpu",
        ids=(Id(vendor=0x1002, class_code=0x03, class_digits=2),),
        nodes=Nodes.DRM,
    ),
    Driver(
        name="nvidia",
        module="nvidia",
        ids=(Id(vendor=0x10DE, class_code=0x03, class_digits=2),),
        nodes=Nodes.NVIDIA,
        waits=True,
    ),
    Driver(
        name="i915", module="i915", ids=(Id(vendor=0x8086, class_code=0x03, class_digits=2),), nodes=Nodes.DRM
    ),
    Driver(name="bochs-drm", module="bochs", ids=(Id(vendor=0x1234, device=0x1111),), nodes=Nodes.DRM),
    # snd_card_disconnect_sync: remove() waits until every file is closed (thesofproject/linux#3196).
    Driver(
        name="snd_hda_intel",
        module="snd_hda_intel",
        ids=(Id(class_code=0x0403, class_digits=4),),
        nodes=Nodes.SOUND,
        waits=True,
        takes_any=True,  # it took a display card in the lab
    ),
    Driver(name="xhci_hcd", module="xhci_pci", ids=(Id(class_code=0x0C0330),)),
    Driver(
        name="ucsi_ccg", module="i2c_nvidia_gpu", ids=(Id(vendor=0x10DE, class_code=0x0C80, class_digits=4),)
    ),
    Driver(
        name="i2c-designware-pci",
        module="i2c_designware_pci",
        ids=(Id(vendor=0x1002, class_code=0x0C80, class_digits=4),),
    ),
    Driver(name="nvme", module="nvme", ids=(Id(class_code=0x010802),), nodes=Nodes.NVME),
    Driver(name="ahci", module="ahci", ids=(Id(class_code=0x010601),)),
    Driver(name="lpc_ich", module="lpc_ich", ids=(Id(vendor=0x8086, class_code=0x0601, class_digits=4),)),
    Driver(name="i801_smbus", module="i2c_i801", ids=(Id(vendor=0x8086, class_code=0x0C05, class_digits=4),)),
    Driver(name="e1000", module="e1000", ids=(Id(vendor=0x8086, device=0x100E),), nodes=Nodes.NET),
    Driver(
        name="igb", module="igb", ids=(Id(vendor=0x8086, class_code=0x0200, class_digits=4),), nodes=Nodes.NET
    ),
    Driver(
        name="r8169",
        module="r8169",
        ids=(Id(vendor=0x10EC, class_code=0x0200, class_digits=4),),
        nodes=Nodes.NET,
    ),
    Driver(name="virtio-pci", module="virtio_pci", ids=(Id(vendor=0x1AF4),), built_in=True),
    VFIO_PCI,
    replace(VFIO_PCI, name="labvfio", module="labvfio", vfio_alias="v00001002d00005046sv*sd*bc*sc*i*"),
)
