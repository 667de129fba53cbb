"""USB devices plugged into the controller at 03:00.0 by QMP, and what sysfs and udev say of them.

Ports 1 to 4 of QEMU's xhci; behind a plugged usb-hub on port 1 there are 1.1 to 1.8. The emulated devices (vendor and
product in `KINDS`) differ by `serial`.
"""

import os
import subprocess
import tempfile
from typing import IO, Self

from . import outside
from .programs import holds

DEVICES = "/sys/bus/usb/devices"
BUS = "xhci.0"
KINDS = {
    "usb-mouse": ("0627", "0001"),
    "usb-tablet": ("0627", "0001"),
    "usb-kbd": ("0627", "0001"),
    "usb-hub": ("0409", "55aa"),
    "usb-storage": ("46f4", "0001"),
}


def plug(kind: str, ident: str, *, port: str, serial: str = "") -> None:
    """Plug a device of KINDS; `ident` is its name for `unplug`, `port` as text (`1`, `1.2`)."""
    more: dict[str, object] = {"serial": serial} if serial else {}
    if kind == "usb-storage":
        outside.qmp("blockdev-add", driver="null-co", **{"node-name": f"{ident}-drive", "size": 1 << 20})
        more["drive"] = f"{ident}-drive"
    outside.qmp("device_add", driver=kind, id=ident, bus=BUS, port=port, **more)


def unplug(ident: str) -> None:
    """Pulled out at once, as a hand does; a drive behind it stays with QEMU under its name."""
    outside.qmp("device_del", id=ident)


def serial(name: str) -> str:
    return _read(name, "serial")


def _read(name: str, attribute: str) -> str:
    try:
        with open(f"{DEVICES}/{name}/{attribute}", encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def find(kind: str, *, serial: str = "") -> str | None:
    """The kernel's name (`1-2`) of a plugged device of this kind, and with this serial number if one is given."""
    for name in sorted(os.listdir(DEVICES)):
        if (_read(name, "idVendor"), _read(name, "idProduct")) == KINDS[kind] and (
            not serial or _read(name, "serial") == serial
        ):
            return name
    return None


def driver(name: str) -> str | None:
    """Of the device itself (`usb`), or of an interface (`1-2:1.0`)."""
    try:
        return os.path.basename(os.readlink(f"{DEVICES}/{name}/driver"))
    except FileNotFoundError:
        return None


class Monitor:
    """What udev announces for USB inside the `with`: `lines()` are `ACTION DEVPATH`, in order."""

    def __init__(self) -> None:
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed on leaving
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = ("stdbuf", "-oL", "udevadm", "monitor", "--udev", "--subsystem-match=usb")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._output)
        holds(lambda: b"udev" in self._text(), 20.0)  # its heading: from here on it listens
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30.0)
        self._output.close()

    def _text(self) -> bytes:
        return os.pread(self._output.fileno(), 1 << 20, 0)

    def lines(self) -> list[str]:
        # UDEV  [12.345678] bind     /devices/pci0000:00/.../usb1/1-1 (usb)
        words = [line.split() for line in self._text().decode().splitlines() if line.startswith("UDEV ")]
        return [f"{line[-3]} {line[-2]}" for line in words if len(line) >= 4]
