"""PCI functions as the kernel shows them, and what the words about them mean."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ADDRESS = re.compile(r"(?:([0-9a-fA-F]{4,8}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])")

DEVICES = "/sys/bus/pci/devices"
"""Where the kernel has them (Documentation/ABI/testing/sysfs-bus-pci)."""

DISPLAY, BRIDGE = 0x03, 0x06
AUDIO, USB, SERIAL_BUS_UCSI = 0x0403, 0x0C03, 0x0C80
COMPANION_CLASSES = frozenset({AUDIO, USB, SERIAL_BUS_UCSI})
"""Functions that come with a display card: its audio, its VirtualLink USB controller, its UCSI controller."""


def parse_address(text: str) -> str:
    """The canonical form ``0000:01:00.0``; accepts ``01:00.0`` too. Raises ValueError."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or int(match[3], 16) > 0x1F:
        raise ValueError(f"{text!r} is not a PCI address (such as 0000:01:00.0)")
    domain, bus, slot, function = match.groups()
    return f"{int(domain or '0', 16):04x}:{int(bus, 16):02x}:{int(slot, 16):02x}.{function}"


def is_address(text: str) -> bool:
    """Is it the canonical form?"""
    match = _ADDRESS.fullmatch(text)
    return match is not None and match[1] is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One PCI function. `class_code` has 24 bits; `override` is None where none is set.

    `path`: the way from the root over the slots, which no renumbering of buses changes: ``0000:00/01.0/00.0``.
    `module`: of its driver, None where that is built in.

    `readable` is False where its attributes must not be read (a write on it is outstanding, or it is degraded): then
    `override` is not known and `driver` comes from the link alone.

    `leaving`: a driver's remove() waits for whoever has it open; it was pulled out, or another program unbound it.
    `driver` is None then, `override` not known, and nothing may be written to it: the kernel holds its lock.
    """

    address: str
    vendor: int
    device: int
    class_code: int
    subsystem_vendor: int = 0
    subsystem_device: int = 0
    driver: str | None = None
    override: str | None = None
    group: int | None = None
    numa_node: int | None = None
    boot_vga: bool = False
    bridge: bool = False
    on_vfio: bool = False
    physfn: str | None = None
    slot_label: str | None = None
    path: str | None = None
    serial: str | None = None
    module: str | None = None
    modalias: str | None = None
    readable: bool = True
    leaving: bool = False

    @property
    def slot(self) -> str:
        """Address without the function: ``0000:01:00``."""
        return self.address.rpartition(".")[0]

    @property
    def base_class(self) -> int:
        return self.class_code >> 16

    @property
    def sub_class(self) -> int:
        """Class and subclass, 16 bits: 0x0300 is a VGA controller."""
        return self.class_code >> 8

    @property
    def is_display(self) -> bool:
        return self.base_class == DISPLAY

    @property
    def is_endpoint(self) -> bool:
        """Not a bridge of any kind; bridges do not count for a group (VFIO, vfio_dev_viable)."""
        return not self.bridge and self.base_class != BRIDGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A VFIO driver made for a function. `driver`: None while its `module` is not loaded, which tells the name."""

    module: str
    driver: str | None = None
