"""The declared policy, as values. Reading it from TOML is hostlerd.settings' work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from hostlerd.model.cpuset import CpuSet
from hostlerd.model.devices import Function
from hostlerd.model.domains import NO_WISHES
from hostlerd.model.edits import Model
from hostlerd.model.profile import PROFILES, Isolation
from hostlerd.model.usb import UsbDevice

PRIORITIES = range(10)
EMULATORS = range(5)
"""What [domains] `priority` and `emulator` may be."""

RESETS = ("device_specific", "acpi", "flr", "af_flr", "pm", "bus", "cxl_bus")
"""The kernel's names, as reset_method has them (drivers/pci/pci.c, pci_reset_fn_methods)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Housekeeping:
    """CPUs never dedicated, and how many the host keeps in any case."""

    cpus: CpuSet = frozenset()
    at_least: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HugepagesPolicy:
    """`auto`: what a domain's definition asks for and is not there is added while it runs.

    `compact`, `drop_caches`: what may be done, once, where the kernel gives too few.
    """

    mode: Literal["auto", "off"] = "auto"
    compact: bool = False
    drop_caches: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainPolicy:
    cpus: Literal["auto", "dedicated", "shared", "off"] = "auto"
    prefer: Literal["vcache", "frequency", "none"] = "none"
    profile: Literal["balanced", "latency", "realtime", "none"] = "balanced"
    isolation: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What is otherwise than the profile has it."""
    core_class: Literal["performance", "efficiency", "none"] = "none"
    """The word is `class`, in the policy as in a domain's metadata."""
    smt: Literal["pair", "isolate"] = "pair"
    """isolate: each vCPU has a core of its own, the siblings stay empty."""
    priority: int = 0
    """Who gets CPUs of its own where they do not suffice: more is more."""
    emulator: int = 0
    """CPUs of its own for its emulator and iothreads."""
    rebalance: bool = True
    write_config: bool = False
    """Its pins and numatune are planned while it is off, and written into its definition."""
    fallback: Literal["emulated", "none"] = "none"
    """What its definition becomes while its GPU is missing or another domain's."""
    fallback_model: Model = "virtio"
    hugepages: HugepagesPolicy = field(default_factory=HugepagesPolicy)

    @property
    def isolates(self) -> Isolation:
        return replace(PROFILES[self.profile], **self.isolation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which functions a device section is about; every field that is set must agree."""

    address: str | None = None
    vendor: int | None = None
    device: int | None = None
    subsystem: int | None = None
    """Subsystem vendor << 16 | subsystem device, or the device alone when below 0x10000."""
    serial: str | None = None
    slot: str | None = None
    path: str | None = None
    """The way over the slots (Function.path), or udev's ID_PATH, which is no more than the address."""

    def matches(self, function: Function) -> bool:
        subsystem = function.subsystem_vendor << 16 | function.subsystem_device
        return (
            (self.address is None or self.address == function.address)
            and (self.vendor is None or self.vendor == function.vendor)
            and (self.device is None or self.device == function.device)
            and (self.subsystem is None or self.subsystem in (subsystem, function.subsystem_device))
            and (self.slot is None or self.slot == function.slot_label)
            and (self.serial is None or self.serial == function.serial)
            and (self.path is None or self.path in (function.path, f"pci-{function.address}"))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePolicy:
    """`group`: addresses of other group members it may take along; `companions`: those of its slot that go with it.

    `holder_limit`: seconds that a holder has to go, once for asking and once for force. `units`: stopped before, and
    started after. `driver`: to return to, instead of the one it came from. `leave`: how its driver is left.
    """

    name: str
    match: Match
    when_idle: Literal["host", "vfio", "none"] = "host"
    companions: Literal["auto", "none"] = "auto"
    group: tuple[str, ...] = ()
    holders: Literal["refuse", "stop", "terminate"] = "refuse"
    holder_limit: float = 10.0
    units: tuple[str, ...] = ()
    driver: str | None = None
    leave: Literal["auto", "unbind", "unload"] = "auto"
    power: Literal["auto", "keep"] = "auto"
    vfio_driver: str = "auto"
    """auto (see decide/vfio), or the driver's name."""
    reset: tuple[str, ...] = ()
    """Methods in the order in which they are tried; none: as the kernel has it."""
    bar: Literal["keep", "max"] | Mapping[int, int] = "keep"
    """`max`, or the size of each BAR that is to have one, in MiB."""
    recover: Literal["no", "reset", "rescan"] = "no"
    """What may be tried with a card that answers nothing any more."""
    vfs: int = 0
    """SR-IOV VFs to make when a domain names one of them; `keep_vfs`: they are made at once and stay."""
    keep_vfs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePolicy:
    """A slice by the mediated device's `uuid`, by the NVIDIA VF `vf`, or else the only one of `domain`.

    `domain`: name or UUID of the only domain that may have it. `parent`: None for any that has an instance left.
    """

    name: str
    type: str
    uuid: str | None = None
    vf: str | None = None
    parent: str | None = None
    domain: str | None = None
    persistent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbMatch:
    """Which USB devices a section is about; every field that is set must agree. `port`: a port's name or its path."""

    vendor: int | None = None
    product: int | None = None
    serial: str | None = None
    port: str | None = None

    def matches(self, device: UsbDevice) -> bool:
        return (
            (self.vendor is None or self.vendor == device.vendor)
            and (self.product is None or self.product == device.product)
            and (self.serial is None or self.serial == device.serial)
            and (self.port is None or self.port in (device.port, device.path))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbPolicy:
    """`domain`: name or UUID of the one that gets the device while it runs."""

    name: str
    match: UsbMatch
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsPolicy:
    """How many CPUs programs may have at once, idle siblings included: one user's, and all. Root has no limit.

    `users_profile`: the quietest that a user may ask for; those beyond balanced change the host as a whole.
    """

    users_at_most: int = 4
    at_most: int | None = None
    users_profile: Literal["none", "balanced", "latency", "realtime"] = "balanced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    libvirt: tuple[str, ...] = ("qemu:///system",)
    housekeeping: Housekeeping = field(default_factory=Housekeeping)
    suspend: Literal["block", "allow"] = "block"
    """Whether the host may sleep while a domain has a device of it."""
    domains: DomainPolicy = field(default_factory=DomainPolicy)
    overrides: Mapping[str, DomainPolicy] = field(default_factory=dict)
    """By name or UUID of a domain, with what [domains] says where they say nothing."""
    stated: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The keys that each of them sets itself; all, of one that is not in here."""
    devices: tuple[DevicePolicy, ...] = ()
    slices: tuple[SlicePolicy, ...] = ()
    usb: tuple[UsbPolicy, ...] = ()
    claims: ClaimsPolicy = field(default_factory=ClaimsPolicy)

    def domain(self, name: str, uuid: str, wishes: Mapping[str, Any] = NO_WISHES) -> DomainPolicy:
        """`wishes`: the domain's own, from its metadata (Definition.wishes).

        They come before [domains] and after what the host says of this very domain.
        """
        known_as = next((key for key in (uuid, name) if key in self.overrides), None)
        if known_as is None:
            return replace(self.domains, **wishes)
        own = self.stated.get(known_as, wishes.keys())
        return replace(
            self.overrides[known_as], **{key: wish for key, wish in wishes.items() if key not in own}
        )

    def device(self, function: Function) -> DevicePolicy | None:
        """The first section that matches."""
        return next((policy for policy in self.devices if policy.match.matches(function)), None)

    def vfio_driver(self, function: Function) -> str:
        policy = self.device(function)
        return "auto" if policy is None else policy.vfio_driver

    def usb_rule(self, device: UsbDevice) -> UsbPolicy | None:
        """The first section that matches."""
        return next((policy for policy in self.usb if policy.match.matches(device)), None)
