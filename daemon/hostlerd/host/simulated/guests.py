"""Domain XML for simulations: what the story, the tests and a newcomer start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hostler.wire import METADATA_NAMESPACE
from hostlerd.model.usb import UsbDevice

NO_PINS: Mapping[int, str] = MappingProxyType({})


def hostdev(address: str, *, managed: bool = True) -> str:
    """A `<hostdev>` for a canonical PCI address."""
    segment, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return (
        f"<hostdev mode='subsystem' type='pci' managed='{'yes' if managed else 'no'}'><source><address "
        f"domain='0x{segment}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/></source></hostdev>"
    )


def mdev(uuid: str) -> str:
    """A `<hostdev>` for a mediated device."""
    return (
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci' managed='no'><source>"
        f"<address uuid='{uuid}'/></source></hostdev>"
    )


def metadata(*slices: str) -> str:
    """`slices`: attributes of hostler:slice elements."""
    elements = "".join(f"<hostler:slice {attributes}/>" for attributes in slices)
    return f"<metadata><hostler:domain xmlns:hostler='{METADATA_NAMESPACE}'>{elements}</hostler:domain></metadata>"


def usb_hostdev(device: UsbDevice, *, alias: bool = True) -> str:
    """A `<hostdev>` for a USB device, as hostler has libvirt attach it; without the alias, as anybody else does."""
    return (
        f"<hostdev mode='subsystem' type='usb' managed='yes'><source><vendor id='0x{device.vendor:04x}'/>"
        f"<product id='0x{device.product:04x}'/><address bus='{device.bus}' device='{device.number}'/></source>"
        + (f"<alias name='{device.mark}'/>" if alias else "")
        + "</hostdev>"
    )


def domain(
    name: str,
    *,
    hostdevs: Sequence[str] = (),
    mdevs: Sequence[str] = (),
    slices: Sequence[str] = (),
    managed: bool = True,
    cores: int = 2,
    threads: int = 2,
    pins: Mapping[int, str] = NO_PINS,
    iothreads: int = 0,
    memory_mib: int = 4096,
    usb: Sequence[str] = (),
    cells: Sequence[str] = (),
    hugepages: Sequence[int] = (),
    nodes: str = "",
) -> str:
    """A q35 guest with `cores` times `threads` vCPUs. `hostdevs`: addresses. `pins`: vCPU to CPU list, explicit.

    `mdevs`: UUIDs. `slices`: as for `metadata`.
    `usb`: ids of USB devices, as lsusb writes them. `cells`: vCPU lists of NUMA cells, which share the memory evenly.
    `hugepages`: KiB of a page, for all of it (0: the host's default) or one a cell. `nodes`: that memory is bound to.
    """
    count = cores * threads
    numa = "".join(
        f"<cell id='{n}' cpus='{vcpus}' memory='{memory_mib // len(cells)}' unit='MiB'/>"
        for n, vcpus in enumerate(cells)
    )
    numa = f"<numa>{numa}</numa>" if numa else ""
    tune = "".join(f"<vcpupin vcpu='{vcpu}' cpuset='{cpus}'/>" for vcpu, cpus in pins.items())
    devices = "".join(hostdev(address, managed=managed) for address in hostdevs)
    more = metadata(*slices) if slices else ""
    devices += "".join(mdev(uuid) for uuid in mdevs)
    for ids in usb:
        vendor, _, product = ids.partition(":")
        devices += (
            f"<hostdev mode='subsystem' type='usb'><source><vendor id='0x{vendor}'/><product id='0x{product}'/>"
            "</source></hostdev>"
        )
    return (
        f"<domain type='kvm'><name>{name}</name>{more}<memory unit='MiB'>{memory_mib}</memory><vcpu>{count}</vcpu>"
        + (f"<iothreads>{iothreads}</iothreads>" if iothreads else "")
        + _backing(hugepages)
        + (f"<numatune><memory mode='strict' nodeset='{nodes}'/></numatune>" if nodes else "")
        + (f"<cputune>{tune}</cputune>" if tune else "")
        + "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
        + f"<cpu mode='host-passthrough'><topology sockets='1' dies='1' cores='{cores}' threads='{threads}'/>"
        + f"{numa}</cpu><devices>{devices}</devices></domain>"
    )


def _backing(hugepages: Sequence[int]) -> str:
    pages = "".join(
        f"<page size='{kib}' unit='KiB'" + (f" nodeset='{cell}'/>" if len(hugepages) > 1 else "/>")
        for cell, kib in enumerate(hugepages)
        if kib
    )
    return f"<memoryBacking><hugepages>{pages}</hugepages></memoryBacking>" if hugepages else ""
