"""USB devices in libvirt's hands: found, marked as used, opened by a domain's QEMU, let go.

Follows src/hypervisor/virhostdev.c (virHostdevPrepareUSBDevices), src/util/virusb.c and src/qemu/qemu_hotplug.c. That a
device was pulled out is told to nobody: it stays in the live XML and on the list until it is detached.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from hostler.errors import BadInput, HostFailed
from hostlerd.host.simulated.domains import Domain
from hostlerd.host.simulated.usb import Plugged, Usb

Address = tuple[int, int]
"""Bus and number."""


class UsbHostdevs:
    """`active`: address to the domain that has it (activeUSBHostdevs)."""

    def __init__(self, usb: Usb) -> None:
        self._usb = usb
        self.active: dict[Address, str] = {}

    def prepare(self, domain: Domain) -> None:
        """Of a domain that starts: all its devices, or HostFailed. The live XML has their addresses afterwards."""
        root = _parse(domain.live or "")
        found: list[Plugged] = []
        for source in _sources(root):
            device = self._find(source)
            if device is None:
                source.set("missing", "yes")
                continue
            self._check_free(device)
            found.append(device)
            _set_address(source, device)
        for device in found:
            self._take(device, domain)
        domain.live = ET.tostring(root, encoding="unicode")

    def attach(self, domain: Domain, text: str) -> None:
        """qemuDomainAttachHostUSBDevice."""
        root, element = _parse(domain.live or ""), _parse(text)
        source = element.find("source")
        devices = root.find("devices")
        if element.get("type") != "usb" or source is None or devices is None:
            raise BadInput("XML error: that is not one USB hostdev")
        controllers = root.findall("devices/controller[@type='usb']")
        if controllers and all(controller.get("model") == "none" for controller in controllers):
            raise HostFailed(  # virDomainDefCompatibleDevice
                "unsupported configuration: Device configuration is not compatible: Domain has no USB bus support"
            )
        device = self._find(source)
        if device is None:
            raise HostFailed("internal error: Did not find USB device")
        self._check_free(device)
        _set_address(source, device)
        self._take(device, domain)
        devices.append(element)
        domain.live = ET.tostring(root, encoding="unicode")

    def detach(self, domain: Domain, text: str) -> None:
        """qemuDomainDetachPrepHostdev: by address where there is one. QEMU lets go at once."""
        root, element = _parse(domain.live or ""), _parse(text)
        wanted = _numbers(element.find("source"))
        devices = root.find("devices")
        for hostdev in list(devices) if devices is not None else []:
            if hostdev.tag != "hostdev" or hostdev.get("type") != "usb" or devices is None:
                continue
            vendor, product, bus, number = _numbers(hostdev.find("source"))
            if wanted[2:] == (bus, number) if wanted[2] else wanted[:2] == (vendor, product):
                devices.remove(hostdev)
                domain.live = ET.tostring(root, encoding="unicode")
                self._let_go(domain, (bus, number))
                return
        raise HostFailed(f"device not found: host usb device {wanted[2]:03}.{wanted[3]:03} not found")

    def close(self, domain: Domain) -> None:
        """QEMU has ended."""
        self._usb.let_go(domain.name)
        self.active = {address: name for address, name in self.active.items() if name != domain.name}

    def adopt(self, domain: Domain) -> None:
        """virHostdevUpdateActiveUSBDevices, when libvirtd starts: from the live XML."""
        for source in _sources(_parse(domain.live or "")):
            _, _, bus, number = _numbers(source)
            if bus and source.get("missing") != "yes":
                self.active[bus, number] = domain.name

    def _find(self, source: ET.Element) -> Plugged | None:
        """virHostdevFindUSBDevice. None where it is optional and not there."""
        vendor, product, bus, number = _numbers(source)
        found = self._usb.find(vendor, product, bus, number)
        if not found:
            if source.get("startupPolicy") == "optional":
                return None
            words = [f"{vendor:04x}:{product:04x}"] if vendor else []
            words += [f"bus:{bus} device:{number}"] if bus else []
            raise HostFailed(f"internal error: Did not find USB device {' '.join(words)}")
        if len(found) > 1:
            raise HostFailed(
                f"operation failed: Multiple USB devices for {vendor:x}:{product:x}, use <address> to specify one"
            )
        return found[0]

    def _check_free(self, device: Plugged) -> None:
        """virHostdevMarkUSBDevices."""
        user = self.active.get(_address(device))
        if user is not None:
            bus, number = _address(device)
            raise HostFailed(
                f"Requested operation is not valid: USB device {bus:03}:{number:03} is in use by driver QEMU, "
                f"domain {user}"
            )

    def _take(self, device: Plugged, domain: Domain) -> None:
        if device.user is not None:  # libusb_claim_interface: EBUSY
            raise HostFailed(
                "internal error: unable to execute QEMU command 'device_add': failed to open host usb device"
            )
        self.active[_address(device)] = domain.name
        self._usb.claim(device.port, domain.name)

    def _let_go(self, domain: Domain, address: Address) -> None:
        if self.active.get(address) == domain.name:
            del self.active[address]
        for device in self._usb.find(0, 0, *address):
            self._usb.let_go(domain.name, device.port)


def _address(device: Plugged) -> Address:
    return int(device.port.partition("-")[0]), device.number


def _parse(text: str) -> ET.Element:
    try:
        return ET.fromstring(text)  # noqa: S314  # simulated: whoever sends it drives the simulation
    except ET.ParseError as error:
        raise BadInput(f"(domain_definition): {error}") from None


def _sources(root: ET.Element) -> Iterator[ET.Element]:
    yield from root.findall("devices/hostdev[@type='usb']/source")


def _numbers(source: ET.Element | None) -> tuple[int, int, int, int]:
    """Vendor, product, bus, number; 0 where it is not said."""

    def value(tag: str, name: str) -> int:
        child = None if source is None else source.find(tag)
        return 0 if child is None else int(child.get(name, "0"), 0)

    return value("vendor", "id"), value("product", "id"), value("address", "bus"), value("address", "device")


def _set_address(source: ET.Element, device: Plugged) -> None:
    element = source.find("address")
    if element is None:
        element = ET.SubElement(source, "address")
    bus, number = _address(device)
    element.set("bus", str(bus))
    element.set("device", str(number))
