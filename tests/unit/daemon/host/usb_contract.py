"""What any host.Hypervisor says of USB devices: the same functions are run on a libvirtd and on the simulated one.

The host has one device, STICK, which no QEMU can open.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostler.errors import HostFailed
from hostlerd.host import Hypervisor
from hostlerd.model.usb import UsbDevice

STICK = UsbDevice(port="1-2.3", bus=1, number=5, vendor=0x0951, product=0x1666)


async def without_a_controller(hypervisor: Hypervisor, uuid: str) -> None:
    with pytest.raises(HostFailed, match="Domain has no USB bus support"):
        await hypervisor.attach_usb(uuid, STICK)


async def of_what_is_not_there(hypervisor: Hypervisor, uuid: str) -> None:
    """All four numbers must be right."""
    for device, words in (
        (replace(STICK, number=6), "0951:1666 bus:1 device:6"),
        (replace(STICK, product=0x1667), "0951:1667 bus:1 device:5"),
    ):
        with pytest.raises(HostFailed, match=f"internal error: Did not find USB device {words}"):
            await hypervisor.attach_usb(uuid, device)


async def of_what_qemu_cannot_open(hypervisor: Hypervisor, uuid: str) -> None:
    """libvirt took the XML, mark and all, found the device, and leaves nothing behind."""
    for _ in range(2):
        with pytest.raises(HostFailed, match="unable to execute QEMU command 'device_add': failed to open"):
            await hypervisor.attach_usb(uuid, STICK)
    (domain,) = [domain for domain in await hypervisor.running() if domain.uuid == uuid]
    assert not domain.live.usb_sources


async def of_what_is_not_attached(hypervisor: Hypervisor, uuid: str) -> None:
    with pytest.raises(HostFailed, match=r"device not found: host usb device 001\.005 not found"):
        await hypervisor.detach_usb(uuid, STICK)


async def of_a_domain_that_does_not_run(hypervisor: Hypervisor, uuid: str) -> None:
    for call in (hypervisor.attach_usb, hypervisor.detach_usb):
        with pytest.raises(HostFailed, match="domain is not running"):
            await call(uuid, STICK)


async def of_a_domain_that_is_not_there(hypervisor: Hypervisor) -> None:
    for call in (hypervisor.attach_usb, hypervisor.detach_usb):
        with pytest.raises(HostFailed, match="Domain not found: no domain with matching uuid"):
            await call("6695eb01-0000-0000-0000-000000000000", STICK)
