"""USB devices as the kernel shows them, and what a domain's XML says of those it has.

Two words for one device: its *port* (``1-2.3``, the kernel's name for the place it is plugged into, which stays) and
its *address* (bus and number, new every time it is plugged in). libvirt is told vendor, product and the address, so
that two identical sticks are told apart and one plugged in meanwhile is not taken for the one that was there
(virUSBDeviceFind compares all four).

What hostler attached carries a *mark*, an alias of hostler's own in the domain's live XML: that is where it is written
down, beside the device itself, and not in the journal. It is there from the moment libvirt has attached the device,
also when libvirt does so after its caller was killed, and it goes with the device; a record could only say what was
meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HUB = 0x09
"""bDeviceClass of a hub (usb.org, Defined Class Codes)."""
DRIVER = "usb"
"""The kernel's driver of whole devices (usb_generic_driver); usbip-host and kin take its place."""
USBFS = "usbfs"
"""The driver of an interface that a program has claimed through /dev/bus/usb, as QEMU does (usbfs_driver, devio.c)."""

PORT = re.compile(r"\d+-\d+(?:\.\d+)*")
PATH = re.compile(r"pci-([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])-usb(?:v\d)?-0:(\d+(?:\.\d+)*)")
"""ID_PATH of udev (path_id): the controller and the place behind it. Newer ones say which USB, too: it is left out."""
_MARK = re.compile(r"ua-hostler-usb-(\d+-\d+(?:_\d+)*)-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbDevice:
    """A device that is plugged in. `drivers`: of its interfaces. `bound`: configured, and nobody else's as a whole.

    `serial` is None where there is none, or where it is not known. `controller`: its PCI address; None if it is no PCI
    function. The kernel numbers buses as controllers come; the controller and the place behind it stay.
    """

    port: str
    bus: int
    number: int
    vendor: int
    product: int
    serial: str | None = None
    device_class: int = 0
    drivers: tuple[str, ...] = ()
    bound: bool = True
    controller: str | None = None

    @property
    def path(self) -> str:
        """As udev's ID_PATH; empty where the controller is no PCI function."""
        return f"pci-{self.controller}-usb-0:{self.port.partition('-')[2]}" if self.controller else ""

    @property
    def label(self) -> str:
        """For people, in the words of the kernel's log: ``usb 1-2.3``."""
        return f"usb {self.port}"

    @property
    def ids(self) -> str:
        """As lsusb writes them."""
        return f"{self.vendor:04x}:{self.product:04x}"

    @property
    def is_hub(self) -> bool:
        return self.device_class == HUB

    @property
    def mark(self) -> str:
        """libvirt takes what begins with ua- and has letters, digits, - and _ (virDomainDeviceInfoParseXML)."""
        return f"ua-hostler-usb-{self.port.replace('.', '_')}-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbSource:
    """What a USB <hostdev> names. A running domain's has the address, too, whatever its definition says.

    `missing`: it was optional and not there when the domain started, so the domain has nothing.
    """

    vendor: int | None = None
    product: int | None = None
    bus: int | None = None
    number: int | None = None
    missing: bool = False
    mark: str = ""

    def names(self, device: UsbDevice) -> bool:
        """As libvirt looks devices up (virHostdevFindUSBDevice): all that is said must agree."""
        if self.missing or (self.vendor is None and self.bus is None):
            return False
        ids = self.vendor is None or (self.vendor, self.product) == (device.vendor, device.product)
        return ids and (self.bus is None or (self.bus, self.number) == (device.bus, device.number))

    def as_attached(self) -> UsbDevice | None:
        """The device as it was when hostler attached it; None if hostler did not."""
        match = _MARK.fullmatch(self.mark)
        if match is None or self.bus is None or self.number is None:
            return None
        return UsbDevice(
            port=match[1].replace("_", "."),
            bus=self.bus,
            number=self.number,
            vendor=self.vendor or 0,
            product=self.product or 0,
        )
