"""Devices of the host in a domain's XML."""

from __future__ import annotations

import pytest

from hostler.errors import BadInput
from hostlerd.model.domains import Hostdev
from hostlerd.model.usb import UsbSource
from hostlerd.observe.domain_xml import parse_domain

UUID = "53764d0e-85a0-42b4-af5c-2046b460b1dc"
ADDRESS = "<address domain='0x0000' bus='0x06' slot='0x12' function='0x5'/>"


def hostdevs(devices: str) -> tuple[Hostdev, ...]:
    return parse_domain(f"<domain type='kvm'><name>a</name><devices>{devices}</devices></domain>").hostdevs


def hostdev(kind: str, source: str, *, more: str = "", after: str = "") -> str:
    return f"<hostdev mode='subsystem' type='{kind}' {more}><source>{source}</source>{after}</hostdev>"


@pytest.mark.parametrize(
    ("devices", "device"),
    [
        (hostdev("pci", ADDRESS), Hostdev(kind="pci", address="0000:06:12.5")),
        (
            hostdev("pci", ADDRESS, more="managed='yes'"),
            Hostdev(kind="pci", address="0000:06:12.5", managed=True),
        ),
        (
            hostdev("pci", "<address bus='10' slot='012' function='7'/>"),
            Hostdev(kind="pci", address="0000:0a:0a.7"),
        ),
        (hostdev("pci", "<address domain='0x10000' bus='0'/>"), Hostdev(kind="pci", address="10000:00:00.0")),
        (
            hostdev("mdev", f"<address uuid='{UUID.upper()}'/>", more="model='vfio-pci'"),
            Hostdev(kind="mdev", uuid=UUID),
        ),
        (
            hostdev("usb", "<address bus='14' device='6'/>"),
            Hostdev(kind="usb", source="bus 14 device 6", usb=UsbSource(bus=14, number=6)),
        ),
        (
            hostdev("usb", "<vendor id='0x046d'/><product id='0xc52b'/>"),
            Hostdev(kind="usb", source="046d:c52b", usb=UsbSource(vendor=0x046D, product=0xC52B)),
        ),
        (
            hostdev(
                "usb",
                "<vendor id='0x046d'/><product id='0xc52b'/><address bus='1' device='4'/>",
                after="<alias name='ua-hostler-usb-1-2_3-4'/>",
            ),
            Hostdev(
                kind="usb",
                source="046d:c52b bus 1 device 4",
                usb=UsbSource(vendor=0x046D, product=0xC52B, bus=1, number=4, mark="ua-hostler-usb-1-2_3-4"),
            ),
        ),
        (
            (
                "<hostdev type='usb'><source startupPolicy='optional' missing='yes'><vendor id='0x046d'/>"
                "<product id='0xc52b'/></source></hostdev>"
            ),
            Hostdev(
                kind="usb",
                source="046d:c52b",
                usb=UsbSource(vendor=0x046D, product=0xC52B, missing=True),
            ),
        ),
        (
            "<interface type='hostdev'><source><address type='usb' bus='1' device='4'/></source></interface>",
            Hostdev(kind="usb", source="bus 1 device 4", usb=UsbSource(bus=1, number=4)),
        ),
        (
            hostdev("scsi", "<adapter name='scsi_host0'/><address bus='0' target='1' unit='2'/>"),
            Hostdev(kind="scsi", source="scsi_host0:0:1:2"),
        ),
        (
            "<hostdev type='scsi'><source protocol='iscsi' name='iqn.1992-01.com.example'/></hostdev>",
            Hostdev(kind="scsi", source="iqn.1992-01.com.example"),
        ),
        (
            "<hostdev type='scsi_host'><source protocol='vhost' wwpn='naa.5'/></hostdev>",
            Hostdev(kind="scsi_host", source="naa.5"),
        ),
        (
            "<hostdev mode='capabilities' type='storage'><source><block>/dev/sdf1</block></source></hostdev>",
            Hostdev(kind="storage", source="/dev/sdf1"),
        ),
        (
            "<interface type='hostdev' managed='yes'><source><address type='pci' bus='0x06'/></source></interface>",
            Hostdev(kind="pci", address="0000:06:00.0", managed=True),
        ),
        (
            f"<disk type='nvme'><source type='pci' managed='yes' namespace='1'>{ADDRESS}</source></disk>",
            Hostdev(kind="pci", address="0000:06:12.5", managed=True),
        ),
    ],
)
def test_kinds(devices: str, device: Hostdev) -> None:
    assert hostdevs(devices) == (device,)


def test_order_is_that_of_the_file_and_other_devices_are_none() -> None:
    found = hostdevs(
        "<disk type='file'/><interface type='network'/>"
        + hostdev("usb", "<address bus='1' device='2'/>")
        + f"<disk type='nvme'><source>{ADDRESS}</source></disk>"
        + hostdev("pci", "<address bus='1'/>")
    )
    assert [device.address or device.source for device in found] == [
        "bus 1 device 2",
        "0000:06:12.5",
        "0000:01:00.0",
    ]


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ("<hostdev/>", "<hostdev>: it has no type"),
        ("<hostdev type='pci'/>", "it has no <source>"),
        (hostdev("pci", ""), "<source>: it has no <address>"),
        (hostdev("pci", "<address/>"), "<address>: it is no PCI address"),
        (hostdev("pci", "<address bus='x'/>"), "<address bus='x'>: bus 'x' is not a number"),
        (hostdev("pci", "<address bus='0x100'/>"), "bus '0x100' is above 0xff"),
        (hostdev("pci", "<address bus='1' slot='32'/>"), "slot '32' is above 0x1f"),
        (hostdev("pci", "<address bus='1' function='8'/>"), "function '8' is above 0x7"),
        (hostdev("pci", ADDRESS, more="managed='maybe'"), "managed is 'maybe', neither yes nor no"),
        (hostdev("pci", ADDRESS) * 2, "0000:06:12.5 is in the domain twice"),
        (hostdev("floppy", ADDRESS), "its type is 'floppy'"),
        (f"<hostdev mode='x' type='pci'><source>{ADDRESS}</source></hostdev>", "its mode is 'x'"),
        (hostdev("mdev", f"<address uuid='{UUID}'/>"), "its model is None"),
        (hostdev("mdev", ADDRESS, more="model='vfio-pci'"), "function='0x5'>: it has no uuid"),
        (hostdev("mdev", "<address uuid='5376'/>", more="model='vfio-pci'"), "'5376' is not a UUID"),
        (hostdev("mdev", f"<address uuid='{UUID}'/>", more="model='vfio-pci'") * 2, "in the domain twice"),
        (hostdev("usb", ""), "neither vendor and product nor an address"),
        (hostdev("usb", "<address bus='1'/>"), "it has no device"),
        (hostdev("usb", "<vendor id='0x1'/><product/>"), "<product>: it has no id"),
        (hostdev("usb", "<vendor id='1'/><product id='2'/>") * 2, "0001:0002 is in the domain twice"),
        (hostdev("scsi", ""), "it names no adapter"),
        (hostdev("scsi", "<adapter name='a'/><address bus='0'/>"), "it has no target"),
        ("<hostdev type='scsi_host'><source protocol='vhost'/></hostdev>", "it has no wwpn"),
        ("<interface type='hostdev'><source/></interface>", "it has no <address>"),
        ("<disk type='nvme'><source/></disk>", "it has no <address>"),
        (hostdev("pci", ADDRESS, after="<address type='pci' slot='77'/>"), "slot '77'"),
        (hostdev("pci", ADDRESS, after="<address type='ccw' cssid='0xfe' ssid='9' devno='0'/>"), "ssid '9'"),
    ],
)
def test_wrong_ones_name_the_element(devices: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        hostdevs(devices)
    assert words in caught.value.message
    assert caught.value.message.startswith("<")


def test_two_equal_usb_devices_are_told_apart_by_their_addresses() -> None:
    ids = "<vendor id='0x03f0'/><product id='0x7e04'/>"
    both = (hostdev("usb", f"{ids}<address bus='1' device='{device}'/>") for device in (20, 21))
    assert [device.source for device in hostdevs("".join(both))] == [
        "03f0:7e04 bus 1 device 20",
        "03f0:7e04 bus 1 device 21",
    ]


def test_scsi_devices_may_share_an_adapter() -> None:
    device = "<hostdev type='scsi'><source protocol='iscsi' name='a'/></hostdev>"
    assert len(hostdevs(device * 2)) == 2


LIVE_NETWORK = """
<interface type='hostdev' managed='yes'>
  <mac address='52:54:00:6d:90:02'/>
  <driver name='vfio'/>
  <source>
    <address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x2'/>
  </source>
  <portid name='d1c3a1a8-2c31-4b0c-8d3e-6f1b1b1c9d11'/>
  <alias name='hostdev0'/>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x03' function='0x0'/>
</interface>
"""
"""Of `<interface type='network'>` with a network of `<forward mode='hostdev'>` while the domain runs: libvirt chose a
virtual function and shows that in place of the network (virDomainNetDefFormat, publicActual)."""


def test_a_network_of_hostdevs_shows_the_device_while_the_domain_runs() -> None:
    assert hostdevs(LIVE_NETWORK) == (Hostdev(kind="pci", address="0000:05:00.2", managed=True),)
    # Which one it will be is not known before: the hook runs first (qemuProcessInit).
    assert hostdevs("<interface type='network'><source network='vfs'/></interface>") == ()
