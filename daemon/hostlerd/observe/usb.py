"""USB devices that are plugged in.

Rules. The kernel holds a device's lock while a driver's probe or disconnect is at it, for seconds where hardware is
slow, for ever where it is broken (usb_bus_type.need_parent_lock), and serial, product and bConfigurationValue take that
lock (usb_lock_device_interruptible, drivers/usb/core/sysfs.c). So an ordinary look reads only what takes none: ids,
numbers, links, names of folders. Serial numbers are asked for apart from it, once for each time that a device is
plugged in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from hostler.errors import TimedOut
from hostlerd.host import Files, Host
from hostlerd.model.usb import DRIVER, PORT, UsbDevice
from hostlerd.observe.reading import link_name, names, number, text

DEVICES = "/sys/bus/usb/devices"
SERIAL_LIMIT = 0.5
"""Seconds that a look at the host may wait for one serial number."""
TRIES = 3
"""Of reading a serial number: each may leave a thread behind."""

_INTERFACE = re.compile(r"(\d+-\d+(?:\.\d+)*):\d+\.\d+")

_CONTROLLER = re.compile(r"/([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])/usb\d+/")

Connection = tuple[str, int]
"""Port and number: one device from being plugged in to being pulled out."""


def observe_usb(files: Files) -> Mapping[str, UsbDevice]:
    """By port, without hubs. One that goes away meanwhile is left out."""
    listed = names(files, DEVICES)
    interfaces: dict[str, list[str]] = {}
    for name in listed:
        match = _INTERFACE.fullmatch(name)
        if match is not None:
            interfaces.setdefault(match[1], []).append(name)
    found: dict[str, UsbDevice] = {}
    for port in sorted(name for name in listed if PORT.fullmatch(name)):
        device = _device(files, port, sorted(interfaces.get(port, [])))
        if device is not None and not device.is_hub:
            found[port] = device
    return found


def _device(files: Files, port: str, interfaces: list[str]) -> UsbDevice | None:
    folder = f"{DEVICES}/{port}"
    bus, address = number(files, f"{folder}/busnum"), number(files, f"{folder}/devnum")
    vendor, product = (number(files, f"{folder}/{name}", 16) for name in ("idVendor", "idProduct"))
    if bus is None or address is None or vendor is None or product is None:
        return None
    drivers = (link_name(files, f"{DEVICES}/{name}/driver") for name in interfaces)
    return UsbDevice(
        port=port,
        bus=bus,
        number=address,
        vendor=vendor,
        product=product,
        device_class=number(files, f"{folder}/bDeviceClass", 16) or 0,
        drivers=tuple(driver for driver in drivers if driver is not None),
        # Interfaces are there when a configuration is in force (usb_set_configuration).
        bound=bool(interfaces) and link_name(files, f"{folder}/driver") == DRIVER,
        controller=_controller(files, folder),
    )


def _controller(files: Files, folder: str) -> str | None:
    try:
        match = _CONTROLLER.search(files.readlink(folder))
    except OSError:
        return None
    return match[1] if match else None


class Serials:
    """Serial numbers, remembered for as long as the device stays plugged in."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._known: dict[Connection, str | None] = {}
        self._failed: dict[Connection, int] = {}

    async def added(self, devices: Mapping[str, UsbDevice]) -> Mapping[str, UsbDevice]:
        """The devices with their serial numbers; None where it has none, or does not tell."""
        present = {(device.port, device.number) for device in devices.values()}
        self._known = {key: serial for key, serial in self._known.items() if key in present}
        self._failed = {key: count for key, count in self._failed.items() if key in present}
        for key in sorted(present - self._known.keys()):
            if self._failed.get(key, 0) < TRIES:
                await self._ask(key)
        return {
            port: replace(device, serial=self._known.get((port, device.number)))
            for port, device in devices.items()
        }

    async def _ask(self, key: Connection) -> None:
        files, folder = self._host.files, f"{DEVICES}/{key[0]}"
        if not files.exists(
            f"{folder}/serial"
        ):  # dev_string_attrs_are_visible: only where the device has one
            self._known[key] = None
            return

        def read() -> tuple[str | None, int | None]:
            return text(files, f"{folder}/serial"), number(files, f"{folder}/devnum")

        try:
            serial, now = await self._host.look(read, limit=SERIAL_LIMIT)
        except TimedOut:
            self._failed[key] = self._failed.get(key, 0) + 1
            return
        if now == key[1]:  # else it is another one by now; the next look has that
            self._known[key] = serial
