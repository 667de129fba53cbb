"""USB as sysfs shows it: buses come with the controllers that xhci_hcd drives, devices are plugged in and pulled out.

Follows drivers/usb/core (hub.c, generic.c, driver.c, devio.c); the function that confirms a behaviour is named where it
is. One bus a controller: the second, faster one that a real xHCI has is left out.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any

from hostlerd.host.simulated.nodes import discard_module_node, make_module_node
from hostlerd.host.simulated.pci import Emit, fail
from hostlerd.host.simulated.tree import Tree

DEVICES = "/sys/bus/usb/devices"
DRIVERS = "/sys/bus/usb/drivers"
LAST_NUMBER = 127
MAJOR = 189
"""USB_DEVICE_MAJOR; 128 minors a bus (USB_DEVICE_DEV, usb_new_device)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbSpec:
    """`drivers`: the kernel's own for each interface."""

    vendor: int
    product: int
    serial: str | None = None
    device_class: int = 0
    drivers: tuple[str, ...] = ("usbhid",)


THINGS = {
    "keyboard": UsbSpec(vendor=0x046D, product=0xC31C, drivers=("usbhid", "usbhid")),
    "stick": UsbSpec(vendor=0x0951, product=0x1666, serial="60A44C413A8CF320", drivers=("usb-storage",)),
    "other-stick": UsbSpec(vendor=0x0951, product=0x1666, serial="1C6F6581FE5F", drivers=("usb-storage",)),
    "hub": UsbSpec(vendor=0x05E3, product=0x0608, device_class=0x09, drivers=("hub",)),
}
"""What can be plugged in, by name. The sticks differ in their serial numbers alone."""


@dataclass(slots=True)
class Plugged:
    """`user`: the program that has it through usbfs. `configured`: False after 0 was written to `authorized`."""

    spec: UsbSpec
    port: str
    number: int
    folder: str
    configured: bool = True
    user: str | None = None

    @property
    def interfaces(self) -> list[str]:
        return [f"{self.port}:1.{index}" for index in range(len(self.spec.drivers))]


@dataclass(slots=True)
class Usb:
    """`buses`: controller's address to number. `devices`: by port."""

    tree: Tree
    emit: Emit
    controller: Callable[[str], str | None]
    """A PCI address to the folder of its device, while xhci_hcd has it."""
    buses: dict[str, int] = field(default_factory=dict[str, int])
    devices: dict[str, Plugged] = field(default_factory=dict[str, Plugged])
    asleep: dict[str, list[tuple[str, UsbSpec]]] = field(default_factory=dict[str, list[tuple[str, UsbSpec]]])
    """Controller to what is plugged in there while nobody drives it: place behind the bus, and what."""
    following: dict[int, int] = field(default_factory=dict[int, int])
    """Bus to the number its next device gets."""

    def follow(self, address: str) -> None:
        """A PCI device was bound, unbound or removed."""
        folder = self.controller(address)
        if folder is not None and address not in self.buses:
            self._add_bus(address, folder)
        elif folder is None and address in self.buses:
            self._remove_bus(address)

    def _add_bus(self, address: str, folder: str) -> None:
        """usb_register_bus: the lowest free number."""
        bus = next(number for number in count(1) if number not in self.buses.values())
        self.buses[address], self.following[bus] = bus, 2
        root = UsbSpec(vendor=0x1D6B, product=0x0002, serial=address, device_class=0x09, drivers=())
        top = Plugged(spec=root, port=f"usb{bus}", number=1, folder=f"{folder}/usb{bus}")
        self._show(top, bus)
        for place, spec in self.asleep.pop(address, []):
            self._enumerate(spec, f"{bus}-{place}")

    def _remove_bus(self, address: str) -> None:
        bus = self.buses[address]
        ports = sorted(port for port in self.devices if port.startswith(f"{bus}-"))
        self.asleep[address] = [(port.partition("-")[2], self.devices[port].spec) for port in ports]
        for port in reversed(ports):
            self._vanish(port)
        del self.buses[address], self.following[bus]
        discard_module_node(self.tree, _node(bus, 1))
        self.tree.discard(f"{DEVICES}/usb{bus}")

    # --- what happens to the host

    def plug(self, spec: UsbSpec, port: str) -> Plugged:
        """Raises ValueError where there is no such port, or something in it."""
        bus = int(port.partition("-")[0])
        above = self.devices.get(port.rpartition(".")[0])
        if bus not in self.following or port in self.devices:
            raise ValueError(f"there is {'something in' if port in self.devices else 'no'} port {port}")
        if "." in port and (above is None or above.spec.device_class != 0x09):
            raise ValueError(f"there is no hub at {port.rpartition('.')[0]}")
        return self._enumerate(spec, port)

    def unplug(self, port: str) -> UsbSpec:
        """usb_disconnect. What is behind a hub goes with it. Raises OSError (ENODEV)."""
        if port not in self.devices:
            raise fail(errno.ENODEV, port)
        spec = self.devices[port].spec
        for below in sorted((p for p in self.devices if p.startswith(f"{port}.")), reverse=True):
            self._vanish(below)
        self._vanish(port)
        return spec

    def authorize(self, port: str, text: str) -> None:
        """authorized_store: usb_deauthorize_device takes the configuration away, usb_authorize_device chooses one."""
        device = self.devices[port]
        wanted = text.strip() == "1"
        if wanted != device.configured:
            device.configured = wanted
            if wanted:
                self._configure(device)
            else:
                device.user = None
                self._deconfigure(device)
            self.tree.put(f"{device.folder}/authorized", f"{int(wanted)}\n")

    # --- a program opens it

    def claim(self, port: str, user: str) -> None:
        """USBDEVFS_DISCONNECT_CLAIM (proc_disconnect_claim): the kernel's drivers go, usbfs comes."""
        device = self.devices[port]
        device.user = user
        for interface in device.interfaces:
            self._drive(interface, "usbfs")

    def let_go(self, user: str, port: str | None = None) -> None:
        """USBDEVFS_CONNECT, as QEMU does when it closes a device; the same when it ends (libusb, auto-detach)."""
        for device in self.devices.values():
            if device.user == user and port in (None, device.port):
                device.user = None
                for interface, driver in zip(device.interfaces, device.spec.drivers, strict=True):
                    self._drive(interface, driver)

    def nodes(self, user: str) -> list[str]:
        """What the program has open."""
        used = [device for device in self.devices.values() if device.user == user]
        return [_node(int(device.port.partition("-")[0]), device.number) for device in used]

    def find(self, vendor: int, product: int, bus: int, number: int) -> list[Plugged]:
        """virUSBDeviceSearch: 0 is any."""
        return [
            d
            for d in self.devices.values()
            if (not vendor or (vendor, product) == (d.spec.vendor, d.spec.product))
            and (not bus or (bus, number) == (int(d.port.partition("-")[0]), d.number))
        ]

    # --- inside

    def _enumerate(self, spec: UsbSpec, port: str) -> Plugged:
        """usb_new_device: `add` of the device first, `bind` of it last, when its interfaces are there."""
        bus = int(port.partition("-")[0])
        above = self.devices.get(port.rpartition(".")[0])
        top = above.folder if above else self.tree.real(f"{DEVICES}/usb{bus}")
        device = Plugged(spec=spec, port=port, number=self._number(bus), folder=f"{top}/{port}")
        self.devices[port] = device
        self._show(device, bus)
        self.emit("add", port)
        self._configure(device)
        self.tree.link(f"{device.folder}/driver", f"{DRIVERS}/usb")
        self.emit("bind", port)
        return device

    def _number(self, bus: int) -> int:
        """choose_devnum: the next free one after the last, from the start again after 127."""
        used = {d.number for d in self.devices.values() if d.port.startswith(f"{bus}-")} | {1}
        start = self.following[bus]
        free: list[int] = [n for n in (*range(start, LAST_NUMBER + 1), *range(2, start)) if n not in used]
        self.following[bus] = free[0] + 1 if free[0] < LAST_NUMBER else 2
        return free[0]

    def _show(self, device: Plugged, bus: int) -> None:
        spec, folder = device.spec, device.folder
        files = {
            "busnum": f"{bus}\n",
            "devnum": f"{device.number}\n",
            "idVendor": f"{spec.vendor:04x}\n",
            "idProduct": f"{spec.product:04x}\n",
            "bDeviceClass": f"{spec.device_class:02x}\n",
            "authorized": "1\n",
            "dev": f"{MAJOR}:{128 * (bus - 1) + device.number - 1}\n",
            "uevent": f"DEVNAME={_node(bus, device.number).removeprefix('/dev/')}\nDEVTYPE=usb_device\n",
        }
        if spec.serial is not None:
            files["serial"] = f"{spec.serial}\n"
        for name, text in files.items():
            self.tree.put(f"{folder}/{name}", text)
        make_module_node(self.tree, _node(bus, device.number), MAJOR, 128 * (bus - 1) + device.number - 1)
        self.tree.folder(f"{DRIVERS}/usb")
        self.tree.link(f"{folder}/subsystem", "/sys/bus/usb")
        self.tree.link(f"{DEVICES}/{device.port}", folder)

    def _configure(self, device: Plugged) -> None:
        """usb_set_configuration."""
        self.tree.put(f"{device.folder}/bConfigurationValue", "1\n")
        for interface, driver in zip(device.interfaces, device.spec.drivers, strict=True):
            self.tree.put(
                f"{device.folder}/{interface}/bInterfaceNumber", f"{interface.rpartition('.')[2]:>02}\n"
            )
            self.tree.link(f"{DEVICES}/{interface}", f"{device.folder}/{interface}")
            self.emit("add", interface)
            self._drive(interface, driver)

    def _deconfigure(self, device: Plugged) -> None:
        self.tree.put(f"{device.folder}/bConfigurationValue", "\n")
        for interface in device.interfaces:
            self.tree.discard(f"{DEVICES}/{interface}")
            self.tree.discard(f"{device.folder}/{interface}")
            self.emit("remove", interface)

    def _drive(self, interface: str, driver: str) -> None:
        link = f"{self.tree.real(f'{DEVICES}/{interface}')}/driver"
        if self.tree.exists(link):
            self.tree.discard(link)
            self.emit("unbind", interface)
        self.tree.folder(f"{DRIVERS}/{driver}")
        self.tree.link(link, f"{DRIVERS}/{driver}")
        self.emit("bind", interface)

    def _vanish(self, port: str) -> None:
        device = self.devices.pop(port)
        if device.configured:
            self._deconfigure(device)
        self.tree.discard(f"{DEVICES}/{port}")
        self.tree.discard(device.folder)
        discard_module_node(self.tree, _node(int(port.partition("-")[0]), device.number))
        self.emit("remove", port)

    # --- to and from JSON

    def show(self) -> dict[str, Any]:
        return {
            port: {"number": device.number, "configured": device.configured, "user": device.user}
            for port, device in sorted(self.devices.items())
        }

    def dump(self) -> dict[str, Any]:
        return {
            "buses": self.buses,
            "following": [[bus, number] for bus, number in self.following.items()],
            "asleep": {a: [[place, asdict(s)] for place, s in things] for a, things in self.asleep.items()},
            "devices": [asdict(device) for device in self.devices.values()],
        }

    def load(self, dumped: dict[str, Any]) -> None:
        self.buses = dict(dumped["buses"])
        self.following = dict(dumped["following"])
        self.asleep = {
            a: [(place, _spec(s)) for place, s in things] for a, things in dumped["asleep"].items()
        }
        self.devices = {row["port"]: _plugged(row) for row in dumped["devices"]}


def _node(bus: int, number: int) -> str:
    """Where a program opens it (usb_devnode)."""
    return f"/dev/bus/usb/{bus:03}/{number:03}"


def _plugged(dumped: dict[str, Any]) -> Plugged:
    row = dict(dumped)
    row["spec"] = _spec(dumped["spec"])
    return Plugged(**row)


def _spec(dumped: dict[str, Any]) -> UsbSpec:
    row = dict(dumped)
    row["drivers"] = tuple(dumped["drivers"])
    return UsbSpec(**row)
