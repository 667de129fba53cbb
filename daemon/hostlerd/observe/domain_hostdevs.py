"""The host's devices in a domain's XML: <hostdev>, <interface type='hostdev'> and <disk type='nvme'>."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from hostlerd.model.domains import Hostdev
from hostlerd.model.usb import UsbSource
from hostlerd.observe.libvirt_text import number, pci_address, uuid, wrong, yes

SUBSYSTEMS = frozenset({"pci", "usb", "scsi", "scsi_host", "mdev"})
MDEV_MODELS = frozenset({"vfio-pci", "vfio-ccw", "vfio-ap"})


def hostdevs(domain: Element) -> Iterator[Hostdev]:
    """In the order of the file. One that is there twice is BadInput, as for libvirt (virDomainHostdevMatch)."""
    seen: set[Hostdev] = set()
    for element, device in _all(domain):
        same = Hostdev(kind=device.kind, address=device.address, uuid=device.uuid, source=device.source)
        if same in seen and device.kind in ("pci", "usb", "mdev"):
            raise wrong(element, f"{device.address or device.uuid or device.source} is in the domain twice")
        seen.add(same)
        yield device


def _all(domain: Element) -> Iterator[tuple[Element, Hostdev]]:
    devices = domain.find("devices")
    for element in devices if devices is not None else ():
        if element.tag == "hostdev":
            yield element, _hostdev(element)
        elif element.tag == "interface" and element.get("type") == "hostdev":
            yield element, _interface(element)
        elif element.tag == "disk" and element.get("type") == "nvme":
            yield element, _nvme(element)


def _source(element: Element) -> Element:
    source = element.find("source")
    if source is None:
        raise wrong(element, "it has no <source>")
    return source


def _address(source: Element) -> Element:
    address = source.find("address")
    if address is None:
        raise wrong(source, "it has no <address>")
    return address


def _hostdev(element: Element) -> Hostdev:
    kind = element.get("type")
    if not kind:
        raise wrong(element, "it has no type")
    if element.get("mode", "subsystem") == "capabilities":
        return Hostdev(kind=kind, managed=yes(element, "managed"), source=_capability(element))
    if element.get("mode", "subsystem") != "subsystem":
        raise wrong(element, f"its mode is {element.get('mode')!r}, neither subsystem nor capabilities")
    if kind not in SUBSYSTEMS:
        raise wrong(element, f"its type is {kind!r}, none of {', '.join(sorted(SUBSYSTEMS))}")
    managed = yes(element, "managed")
    source = _source(element)
    _check_guest_address(element)
    if kind == "pci":
        return Hostdev(kind=kind, address=pci_address(_address(source)), managed=managed)
    if kind == "mdev":
        if element.get("model") not in MDEV_MODELS:
            raise wrong(
                element, f"its model is {element.get('model')!r}, none of {', '.join(sorted(MDEV_MODELS))}"
            )
        address = _address(source)
        return Hostdev(kind=kind, managed=managed, uuid=uuid(address, address.get("uuid")))
    if kind == "usb":
        alias = element.find("alias")
        mark = "" if alias is None else alias.get("name", "")
        return Hostdev(kind=kind, managed=managed, source=_usb(source), usb=_usb_source(source, mark))
    return Hostdev(kind=kind, managed=managed, source=_scsi(source))


def _capability(element: Element) -> str | None:
    """Of a container: a block or character device, or an interface."""
    source = _source(element)
    return next(
        ((child.text or "").strip() for child in source if child.tag in ("block", "char", "interface")), None
    )


def _interface(element: Element) -> Hostdev:
    address = _address(_source(element))
    managed = yes(element, "managed")
    if address.get("type", "pci") == "usb":
        source = _source(element)
        return Hostdev(
            kind="usb", managed=managed, source=_usb_place(address), usb=_usb_source(source, mark="")
        )
    return Hostdev(kind="pci", address=pci_address(address), managed=managed)


def _nvme(element: Element) -> Hostdev:
    source = _source(element)
    return Hostdev(kind="pci", address=pci_address(_address(source)), managed=yes(source, "managed"))


def _usb(source: Element) -> str:
    """``vendor:product`` as lsusb writes it, ``bus 1 device 4``, or both: the address tells equal devices apart."""
    vendor, product, address = source.find("vendor"), source.find("product"), source.find("address")
    words: list[str] = []
    if vendor is not None and product is not None:
        ids = [number(e, e.get("id"), "id", most=0xFFFF) for e in (vendor, product)]
        words.append(f"{ids[0]:04x}:{ids[1]:04x}")
    if address is not None:
        words.append(_usb_place(address))
    if not words:
        raise wrong(source, "it names neither vendor and product nor an address")
    return " ".join(words)


def _usb_source(source: Element, mark: str) -> UsbSource:
    """Of an element that `_usb` or `_usb_place` has understood."""

    def value(tag: str, name: str, most: int) -> int | None:
        child = source.find(tag)
        return (
            None
            if child is None or child.get(name) is None
            else number(child, child.get(name), name, most=most)
        )

    return UsbSource(
        vendor=value("vendor", "id", 0xFFFF),
        product=value("product", "id", 0xFFFF),
        bus=value("address", "bus", 0xFFFFFFFF),
        number=value("address", "device", 0xFFFFFFFF),
        missing=source.get("missing") == "yes",  # virDomainHostdevDefFormatSubsys
        mark=mark,
    )


def _usb_place(address: Element) -> str:
    if address.get("device") is None and address.get("port") is not None:
        return f"bus {number(address, address.get('bus'), 'bus')} port {address.get('port')}"
    bus, device = (number(address, address.get(name), name) for name in ("bus", "device"))
    return f"bus {bus} device {device}"


def _scsi(source: Element) -> str | None:
    """``scsi_host0:0:0:0`` (adapter, bus, target, unit), an iSCSI name, or a vhost's WWPN."""
    if source.get("protocol") == "vhost":
        if not source.get("wwpn"):
            raise wrong(source, "it has no wwpn")
        return source.get("wwpn")
    if source.get("protocol") is not None:
        if not source.get("name"):
            raise wrong(source, "it has no name")
        return source.get("name")
    adapter = source.find("adapter")
    if adapter is None or not adapter.get("name"):
        raise wrong(source, "it names no adapter")
    address = _address(source)
    place = [number(address, address.get(name), name) for name in ("bus", "target", "unit")]
    return ":".join([adapter.get("name") or "", *map(str, place)])


def _check_guest_address(element: Element) -> None:
    """Where the guest sees it: read by libvirt alone, but a wrong one means a wrong file."""
    address = element.find("address")
    if address is None:
        return
    kind = address.get("type")
    if kind == "pci" and any(address.get(name) is not None for name in ("domain", "bus", "slot", "function")):
        pci_address(address)
    elif kind == "ccw" and any(address.get(name) is not None for name in ("cssid", "ssid", "devno")):
        for name, most in (("cssid", 0xFE), ("ssid", 3), ("devno", 0xFFFF)):
            number(address, address.get(name), name, most=most)
    zpci = address.find("zpci")
    if zpci is None or zpci.get("uid") is None or zpci.get("fid") is None:
        return  # libvirt finds numbers of its own
    if not number(zpci, zpci.get("uid"), "uid", most=0xFFFF):
        raise wrong(zpci, "a uid is above 0")
