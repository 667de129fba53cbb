"""USB devices of running domains, as libvirt is told of them. Each a function of a connection that blocks.

vendor, product and address together: libvirt then takes this device or none (virUSBDeviceFind). Detaching finds it by
the address alone (virDomainHostdevMatchSubsysUSB), plugged in or not. The live domain only: the definition is its
user's.
"""

from __future__ import annotations

from typing import Any

from hostlerd.host.libvirt.link import libvirt
from hostlerd.model.usb import UsbDevice


def hostdev(device: UsbDevice) -> str:
    return (
        f"<hostdev mode='subsystem' type='usb' managed='yes'><source><vendor id='0x{device.vendor:04x}'/>"
        f"<product id='0x{device.product:04x}'/><address bus='{device.bus}' device='{device.number}'/></source>"
        f"<alias name='{device.mark}'/></hostdev>"
    )


def attach(connection: Any, uuid: str, device: UsbDevice) -> str:
    """Returns the live XML afterwards."""
    domain = connection.lookupByUUIDString(uuid)
    domain.attachDeviceFlags(hostdev(device), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    return str(domain.XMLDesc(0))


def detach(connection: Any, uuid: str, device: UsbDevice) -> str:
    """Waits until QEMU has let go, some seconds at most (qemuDomainWaitForDeviceRemoval). Returns the live XML then."""
    domain = connection.lookupByUUIDString(uuid)
    domain.detachDeviceFlags(hostdev(device), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    return str(domain.XMLDesc(0))
