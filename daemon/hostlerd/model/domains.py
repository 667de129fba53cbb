"""Domains as libvirt's XML describes them, and as libvirt says they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from hostlerd.model.cpuset import CpuSet
from hostlerd.model.guest_memory import Numatune
from hostlerd.model.hugepages import SMALL, Dimm, PageSize
from hostlerd.model.slices import SliceSpec
from hostlerd.model.usb import UsbSource

NO_PINS: Mapping[int, CpuSet] = MappingProxyType({})
NO_WISHES: Mapping[str, Any] = MappingProxyType({})


class Gpu(StrEnum):
    """The way a domain has its GPU."""

    PASSTHROUGH = "passthrough"
    SLICE = "slice"
    EMULATED = "emulated"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostdev:
    """`kind`: pci, mdev, usb, scsi, ...; a PCI one has an `address` (canonical), an mdev a `uuid`, others a
    `source`, which of a USB one is for people."""

    kind: str
    address: str | None = None
    managed: bool = False
    uuid: str | None = None
    source: str | None = None
    usb: UsbSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestTopology:
    sockets: int
    dies: int
    cores: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A NUMA cell of the guest."""

    cpus: CpuSet
    memory_kib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a domain XML says. `vcpu_pins` are explicit `<vcpupin>` only; `emulator_pins` None where there is none."""

    name: str
    uuid: str
    type: str = "kvm"
    vcpus: int = 1
    max_vcpus: int = 1
    topology: GuestTopology | None = None
    vcpu_pins: Mapping[int, CpuSet] = field(default_factory=lambda: NO_PINS)
    cpuset: CpuSet | None = None
    """`<vcpu cpuset=...>`: explicit for every vCPU without a pin of its own."""
    emulator_pins: CpuSet | None = None
    iothreads: int = 0
    iothread_pins: Mapping[int, CpuSet] = field(default_factory=lambda: NO_PINS)
    iothread_ids: tuple[int, ...] = ()
    hostdevs: tuple[Hostdev, ...] = ()
    cells: tuple[Cell, ...] = ()
    memory_kib: int = 0
    hugepages: bool = False
    page_sizes: tuple[PageSize, ...] = ()
    dimms: tuple[Dimm, ...] = ()
    numatune: Numatune | None = None
    auto_placement: bool = False
    """`<vcpu placement='auto'>`: numad says where it runs, and libvirt drops pins."""
    gpu: Gpu = Gpu.NONE
    slices: tuple[SliceSpec, ...] = ()
    vcpu_ids: tuple[int, ...] = ()
    """Those that are plugged in, where they are not simply the first `vcpus` (`virsh setvcpu`)."""
    wishes: Mapping[str, Any] = field(default_factory=lambda: NO_WISHES)
    """What its own metadata says of its CPUs, by field of model.settings.DomainPolicy."""
    problems: tuple[str, ...] = ()
    """What in there makes no sense, and is not heeded."""

    @property
    def present(self) -> Sequence[int]:
        """The vCPUs it has now, by id."""
        return self.vcpu_ids or range(self.vcpus)

    @property
    def pci_addresses(self) -> tuple[str, ...]:
        return tuple(h.address for h in self.hostdevs if h.kind == "pci" and h.address is not None)

    @property
    def asks_for_hugepages(self) -> bool:
        return bool(self.page_sizes) or any(dimm.page_kib > SMALL for dimm in self.dimms)

    @property
    def mdev_uuids(self) -> tuple[str, ...]:
        return tuple(h.uuid for h in self.hostdevs if h.kind == "mdev" and h.uuid is not None)

    @property
    def usb_sources(self) -> tuple[UsbSource, ...]:
        return tuple(h.usb for h in self.hostdevs if h.usb is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A domain that libvirt says is active. `live` has the pins in force; `definition` the inactive XML.

    `definition` is None for a transient domain, which has none.
    """

    live: Definition
    definition: Definition | None
    state: str = "running"

    @property
    def uuid(self) -> str:
        return self.live.uuid

    @property
    def name(self) -> str:
        return self.live.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What libvirt said last. `known` is False until it was asked for the first time, or while it is away.

    `taken` orders the snapshot against claims: one whose question was asked before a claim says nothing about it.
    """

    known: bool = False
    taken: int = 0
    running: tuple[Running, ...] = ()
    inactive: tuple[Definition, ...] = ()
    libvirt: int | None = None
    """Version of the oldest libvirt asked, as virConnectGetLibVersion has it: 10.1.2 is 10001002."""
