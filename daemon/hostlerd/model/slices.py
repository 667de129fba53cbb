"""Slices of devices: SR-IOV virtual functions, mediated devices, and NVIDIA's vGPUs on virtual functions.

Not to be taken for systemd's slices (model/isolation). A *parent* is what slices are cut from: by address where it is a
PCI function, else by its name in /sys/class/mdev_bus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Sriov:
    """A PF. `count`: VFs it has now.

    `offset`, `stride`: as the kernel read them at boot. A device may number its VFs otherwise once their count is set
    (SR-IOV 1.1, 3.3.9); then the address that was foretold does not come to be, and who asked for it is told so.
    """

    address: str
    total: int
    count: int = 0
    offset: int = 0
    stride: int = 0

    def vf(self, index: int) -> str:
        """pci_iov_virtfn_bus, pci_iov_virtfn_devfn."""
        domain, bus, rest = self.address.split(":")
        slot, function = rest.split(".")
        routing = (
            (int(bus, 16) << 8) + (int(slot, 16) << 3) + int(function) + self.offset + self.stride * index
        )
        return f"{domain}:{routing >> 8:02x}:{routing >> 3 & 0x1F:02x}.{routing & 7}"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of all VFs it can have; none where the device does not say how they are numbered."""
        if not self.offset or (self.total > 1 and not self.stride):
            return ()
        return tuple(self.vf(index) for index in range(self.total))


@dataclass(frozen=True, slots=True, kw_only=True)
class MdevType:
    """`available`: instances that can still be made; types of one parent share what it has. None: not known."""

    parent: str
    id: str
    name: str = ""
    description: str = ""
    api: str = ""
    available: int | None = None

    def is_called(self, word: str) -> bool:
        return word in (self.id, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mdev:
    """`group`: its IOMMU group; `type` is None while it is being made or taken away."""

    uuid: str
    parent: str
    type: str | None
    group: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MdevDefinition:
    """mdevctl's. `auto`: mdevctl makes it whenever its parent comes. `attrs`: written to it once it is there."""

    uuid: str
    parent: str
    type: str
    auto: bool = False
    attrs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VgpuType:
    id: int
    name: str

    def is_called(self, word: str) -> bool:
        """By number, by name, or by the name without its first word: ``L40S-4Q``."""
        return word in (str(self.id), self.name, self.name.partition(" ")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class VgpuSlot:
    """An NVIDIA VF: the type it has (0 for none), and those it could be given now."""

    address: str
    current: int = 0
    creatable: tuple[VgpuType, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """`sriov` by PF, `mdevs` and `definitions` by UUID, `vgpus` by VF."""

    sriov: Mapping[str, Sriov] = field(default_factory=dict)
    types: tuple[MdevType, ...] = ()
    mdevs: Mapping[str, Mdev] = field(default_factory=dict)
    definitions: Mapping[str, MdevDefinition] = field(default_factory=dict)
    vgpus: Mapping[str, VgpuSlot] = field(default_factory=dict)

    def parent_of_vf(self, address: str) -> tuple[Sriov, int] | None:
        """The PF that would have a VF of this address, and the VF's index."""
        for sriov in self.sriov.values():
            if address in sriov.addresses:
                return sriov, sriov.addresses.index(address)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSpec:
    """What a domain's own metadata says of a slice: of the mediated device `uuid`, or of the VF `vf`.

    `problem`: it makes no sense, and why.
    """

    uuid: str | None = None
    vf: str | None = None
    type: str | None = None
    parent: str | None = None
    persistent: bool = False
    problem: str = ""
