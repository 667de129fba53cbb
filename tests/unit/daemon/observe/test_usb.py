"""USB devices, and their serial numbers, which may not come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.daemon.observe.recorded import tree

from hostler.errors import TimedOut
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.usb import UsbDevice
from hostlerd.observe.usb import Serials, observe_usb

DEVICES = "/sys/bus/usb/devices"


def device(name: str, *, number: int = 4, kind: str = "00", **more: str) -> dict[str, str]:
    files = {
        "busnum": f"{name[0]}\n",
        "devnum": f"{number}\n",
        "idVendor": "046d\n",
        "idProduct": "c52b\n",
        "bDeviceClass": f"{kind}\n",
        **more,
    }
    return {f"{DEVICES}/{name}/{file}": text for file, text in files.items()}


def driver(name: str, which: str) -> dict[str, str]:
    return {f"{DEVICES}/{name}/driver": f"../../../bus/usb/drivers/{which}"}


def test_devices_with_their_interfaces_and_without_hubs() -> None:
    files = tree(
        {
            **device("1-2.3"),
            f"{DEVICES}/1-2.3:1.0/": "",
            f"{DEVICES}/1-2.3:1.1/": "",
            **device("1-2", kind="09"),
            f"{DEVICES}/1-2:1.0/": "",
            **{path.replace("1-0", "usb1"): text for path, text in device("1-0", kind="09").items()},
            f"{DEVICES}/1-0:1.0/": "",
        },
        driver("1-2.3", "usb") | driver("1-2.3:1.0", "usbhid") | driver("1-2", "usb"),
    )
    assert observe_usb(files) == {
        "1-2.3": UsbDevice(port="1-2.3", bus=1, number=4, vendor=0x046D, product=0xC52B, drivers=("usbhid",))
    }


@pytest.mark.parametrize(
    ("interfaces", "which", "bound"),
    [(True, "usb", True), (False, "usb", False), (True, None, False), (True, "usbip-host", False)],
)
def test_bound_is_configured_and_not_taken_as_a_whole(
    interfaces: bool, which: str | None, bound: bool
) -> None:
    files = device("1-2") | ({f"{DEVICES}/1-2:1.0/": ""} if interfaces else {})
    links = driver("1-2", which) if which else {}
    assert observe_usb(tree(files, links))["1-2"].bound is bound


def test_a_device_that_goes_away_meanwhile_is_left_out() -> None:
    files = device("1-2")
    del files[f"{DEVICES}/1-2/devnum"]
    assert observe_usb(tree(files)) == {}
    assert observe_usb(tree({})) == {}


def test_an_ordinary_look_takes_no_lock() -> None:
    files = tree(device("1-2", serial="A\n", bConfigurationValue="1\n"))
    files.locked = {
        f"{DEVICES}/1-2/{name}" for name in ("serial", "bConfigurationValue", "product", "uevent")
    }
    assert list(observe_usb(files)) == ["1-2"]
    assert not files.hung


class SlowHost:
    """Answers when it is told to."""

    def __init__(self, files: Tree) -> None:
        self.files = files
        self.slow = False
        self.looks = 0

    async def look(self, read: Callable[[], Any], *, limit: float) -> Any:
        self.looks += 1
        if self.slow:
            raise TimedOut("slow")
        return read()


async def test_a_serial_number_is_asked_for_once() -> None:
    files = tree(device("1-2", serial="A\n") | device("1-3", number=5))
    host = SlowHost(files)
    serials = Serials(host)  # type: ignore[arg-type]
    for _ in range(3):
        seen = await serials.added(observe_usb(files))
        assert {port: found.serial for port, found in seen.items()} == {"1-2": "A", "1-3": None}
    assert host.looks == 1
    files.put(f"{DEVICES}/1-2/serial", "B\n")
    files.put(f"{DEVICES}/1-2/devnum", "6\n")
    assert (await serials.added(observe_usb(files)))["1-2"].serial == "B"
    assert host.looks == 2


async def test_one_that_does_not_come_is_asked_for_three_times() -> None:
    files = tree(device("1-2", serial="A\n"))
    host = SlowHost(files)
    host.slow = True
    serials = Serials(host)  # type: ignore[arg-type]
    for _ in range(9):
        assert (await serials.added(observe_usb(files)))["1-2"].serial is None
    assert host.looks == 3
    host.slow = False
    files.put(f"{DEVICES}/1-2/devnum", "5\n")
    assert (await serials.added(observe_usb(files)))["1-2"].serial == "A"


async def test_one_of_another_device_is_not_taken() -> None:
    """It was pulled out between the look and the question."""
    files = tree(device("1-2", serial="A\n"))
    seen = observe_usb(files)
    files.put(f"{DEVICES}/1-2/devnum", "5\n")
    assert (await Serials(SlowHost(files)).added(seen))["1-2"].serial is None  # type: ignore[arg-type]
