"""Domain XML as the simulated libvirt keeps it: text in, text out, with the few edits that libvirt makes itself.

What a domain *means* to the daemon is read by `hostlerd.observe.domain_xml`; here is what libvirt does to the text.
"""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from hostler.errors import BadInput, HostFailed
from hostler.wire import WISHES_NAMESPACE
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list


@dataclass(frozen=True, slots=True, kw_only=True)
class PciHostdev:
    address: str
    managed: bool


def _parse(text: str) -> ET.Element:
    try:
        return ET.fromstring(text)  # noqa: S314  # simulated: whoever sends it drives the simulation
    except ET.ParseError as error:
        raise BadInput(f"(domain_definition): {error}") from None


def _text(root: ET.Element) -> str:
    return ET.tostring(root, encoding="unicode")


def defined(text: str) -> tuple[str, str, str]:
    """Name, UUID and the text with a UUID, which libvirt makes up where there is none. Raises BadInput."""
    root = _parse(text)
    name = root.findtext("name", "").strip()
    if root.tag != "domain" or not name:
        raise BadInput("XML error: no domain with a name")
    found = root.findtext("uuid")
    if found is None:
        found = str(
            uuid.uuid5(uuid.NAMESPACE_DNS, name)
        )  # the same every time: a simulation is to be repeatable
        element = ET.Element("uuid")
        element.text = found
        root.insert(1, element)
    return name, found.strip(), _text(root)


def filled_in(text: str) -> str:
    """What libvirt writes into a definition by itself: a display's heads, where it listens, and a sound for it
    (virDomainDefPostParse, qemuDomainDefAddDefaultAudioBackend; libvirt 9.0).
    """
    root = _parse(text)
    devices = root.find("devices")
    if devices is None:
        return text
    for model in devices.findall("video/model"):
        if model.get("type") != "none":
            model.attrib.setdefault("heads", "1")
            model.attrib.setdefault("primary", "yes")
    for graphics in devices.findall("graphics"):
        listen = graphics.find("listen")
        graphics.attrib.setdefault("port", "-1")
        if listen is not None and listen.get("address") is not None:
            graphics.attrib.setdefault("listen", listen.get("address", ""))
    if devices.find("graphics") is not None and devices.find("audio") is None:
        devices.append(ET.Element("audio", {"id": "1", "type": "none"}))
    return _text(root)


def live(text: str, number: int) -> str:
    root = _parse(text)
    root.set("id", str(number))
    return _text(root)


def pci_hostdevs(text: str) -> list[PciHostdev]:
    """<hostdev type='pci'> and <interface type='hostdev'>."""
    return [
        PciHostdev(address=_address(source), managed=element.get("managed") == "yes")
        for element, source in _pci_elements(_parse(text))
    ]


def mdevs(text: str) -> list[str]:
    """UUIDs of <hostdev type='mdev'>."""
    found = [
        element.find("source/address") for element in _parse(text).findall("devices/hostdev[@type='mdev']")
    ]
    return [address.get("uuid", "").lower() for address in found if address is not None]


def device_hostdev(text: str) -> PciHostdev:
    """Of one device's XML, as attach-device takes it. Raises BadInput."""
    found = pci_hostdevs(f"<domain><devices>{text}</devices></domain>")
    if len(found) != 1:
        raise BadInput("XML error: that is not one PCI hostdev")
    return found[0]


def with_device(text: str, device: str) -> str:
    root = _parse(text)
    devices = root.find("devices")
    if devices is None:
        devices = ET.SubElement(root, "devices")
    devices.append(_parse(device))
    return _text(root)


def without_device(text: str, address: str) -> str:
    root = _parse(text)
    devices = root.find("devices")
    for element, source in list(_pci_elements(root)):
        if devices is not None and _address(source) == address:
            devices.remove(element)
    return _text(root)


def vcpus(text: str) -> int:
    element = _parse(text).find("vcpu")
    return 1 if element is None else int(element.get("current") or element.text or "1")


def with_vcpus(text: str, count: int) -> str:
    """`count` of those that it may have at most. Raises HostFailed with libvirt's words."""
    root = _parse(text)
    element = root.find("vcpu")
    most = 1 if element is None else int(element.text or "1")
    if element is None or not 0 < count <= most:
        raise HostFailed(
            f"invalid argument: requested vcpus is greater than max allowable vcpus for the live domain: {count} > "
            f"{most}"
        )
    element.set("current", str(count))
    return _text(root)


def with_wishes(text: str, attributes: str) -> str:
    """One element of a namespace in the metadata; the one before is replaced (virXMLInjectNamespace)."""
    root = _parse(text)
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ET.Element("metadata")
        root.insert(1, metadata)
    for element in metadata.findall(f"{{{WISHES_NAMESPACE}}}cpus"):
        metadata.remove(element)
    metadata.append(_parse(f"<hostler:cpus xmlns:hostler='{WISHES_NAMESPACE}' {attributes}/>"))
    return _text(root)


def iothreads(text: str) -> list[int]:
    root = _parse(text)
    ids = [int(element.get("id", "0")) for element in root.findall("iothreadids/iothread")]
    wanted = max(int(root.findtext("iothreads", "0")), len(ids))
    free = (number for number in range(1, 1000) if number not in ids)
    while len(ids) < wanted:
        ids.append(next(free))
    return sorted(ids)


def pins(text: str) -> dict[tuple[str, int], CpuSet]:
    """("vcpupin" | "iothreadpin" | "emulatorpin", number) to CPUs."""
    found: dict[tuple[str, int], CpuSet] = {}
    for kind, key in (("vcpupin", "vcpu"), ("iothreadpin", "iothread"), ("emulatorpin", "")):
        for element in _parse(text).findall(f"cputune/{kind}"):
            found[kind, int(element.get(key, "0"))] = parse_cpu_list(element.get("cpuset", ""))
    return found


def with_pin(text: str, kind: str, number: int, cpus: CpuSet) -> str:
    root = _parse(text)
    key = {"vcpupin": "vcpu", "iothreadpin": "iothread"}.get(kind)
    tune = root.find("cputune")
    if tune is None:
        tune = ET.SubElement(root, "cputune")
    for element in tune.findall(kind):
        if key is None or element.get(key) == str(number):
            tune.remove(element)
    element = ET.SubElement(tune, kind)
    if key is not None:
        element.set(key, str(number))
    element.set("cpuset", format_cpu_list(cpus))
    return _text(root)


def _pci_elements(root: ET.Element) -> Iterator[tuple[ET.Element, ET.Element]]:
    for element in root.findall("devices/hostdev[@type='pci']") + root.findall(
        "devices/interface[@type='hostdev']"
    ):
        source = element.find("source/address")
        if source is not None:
            yield element, source


def _address(source: ET.Element) -> str:
    parts = [int(source.get(name, "0"), 0) for name in ("domain", "bus", "slot", "function")]
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)
