"""Domains: their XML, and starting, stopping and removing them through virsh.

Emulated (`type='qemu'`), no disk, no display, and a firmware that halts: under emulation in an emulation a real one
would keep the machine busy for a quarter of a minute. Every MiB of memory costs time at start, because the emulated
IOMMU maps page by page.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from .programs import Done, Failed, need, virsh

START_LIMIT = 180.0
FOLDER = "/var/lib/lab"
"""Not below /run, for the domain that starts at the next boot; nor below /usr, where AppArmor lets no loader be."""

# A port of this machine type lets a device go at once if the guest never powered its slot; newer types ask the guest's
# ACPI, and without an operating system in the guest nobody answers.
UNPLUGS = "pc-q35-6.0"

# 64 KiB that end in `cli; hlt; jmp` back to the hlt at the reset vector.
_RESET = bytes.fromhex("fa f4 eb fd").ljust(16, b"\xf4")
HALTING = _RESET.rjust(65536, b"\xf4")
BROKEN = b"too short for a firmware"
"""QEMU gives up with this: a start that fails after the hook's prepare."""


def hostdev(address: str, *, managed: bool) -> str:
    segment, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return (
        f"<hostdev mode='subsystem' type='pci' managed='{'yes' if managed else 'no'}'><source><address "
        f"domain='0x{segment}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/></source>"
        "<rom bar='off'/></hostdev>"
    )


def mediated(uuid: str) -> str:
    return (
        "<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci'>"
        f"<source><address uuid='{uuid}'/></source></hostdev>"
    )


def usb_hostdev(ids: str) -> str:
    vendor, _, product = ids.partition(":")
    return (
        f"<hostdev mode='subsystem' type='usb'><source><vendor id='0x{vendor}'/><product id='0x{product}'/>"
        "</source></hostdev>"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    name: str
    vcpus: int = 2
    threads: int = 1
    plugged: int | None = None
    """How many of them it starts with; None: all."""
    memory: int = 128
    hostdevs: tuple[str, ...] = ()
    mdevs: tuple[str, ...] = ()
    """UUIDs of mediated devices."""
    slices: tuple[str, ...] = ()
    """Attributes of hostler:slice elements in its metadata."""
    usb: str = "none"
    """Model of its USB controller."""
    usb_devices: tuple[str, ...] = ()
    """Vendor and product, as lsusb writes them."""
    managed: bool = True
    pins: Mapping[int, str] = field(default_factory=dict)
    iothreads: int = 0
    machine: str = "pc"
    ports: int = 0
    """Empty PCIe ports, for devices that come while it runs; only on a q35 machine."""
    backing: str = ""
    """<memoryBacking> and <numatune>."""
    firmware: bytes = HALTING

    @property
    def _loader(self) -> str:
        return os.path.join(FOLDER, f"{self.name}.bin")

    def xml(self) -> str:
        pins = "".join(f"<vcpupin vcpu='{vcpu}' cpuset='{cpus}'/>" for vcpu, cpus in self.pins.items())
        return f"""<domain type='qemu'>
  <name>{self.name}</name>
  {self._metadata()}
  <memory unit='MiB'>{self.memory}</memory>
  {self.backing}
  <vcpu current='{self.plugged or self.vcpus}'>{self.vcpus}</vcpu>
  {f"<iothreads>{self.iothreads}</iothreads>" if self.iothreads else ""}
  {f"<cputune>{pins}</cputune>" if pins else ""}
  <os><type arch='x86_64' machine='{self.machine}'>hvm</type>
    <loader readonly='yes' type='rom'>{self._loader}</loader></os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model fallback='allow'>qemu64</model>
    <topology sockets='1' dies='1' cores='{self.vcpus // self.threads}' threads='{self.threads}'/></cpu>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='{self.usb}'/>
    <memballoon model='none'/>
    {self._ports()}
    {"".join(hostdev(address, managed=self.managed) for address in self.hostdevs)}
    {"".join(map(mediated, self.mdevs))}
    {"".join(map(usb_hostdev, self.usb_devices))}
  </devices>
</domain>
"""

    def _metadata(self) -> str:
        if not self.slices:
            return ""
        elements = "".join(f"<hostler:slice {attributes}/>" for attributes in self.slices)
        name = "hostler:domain"
        return f"<metadata><{name} xmlns:hostler='urn:hostler:domain:1'>{elements}</{name}></metadata>"

    def _ports(self) -> str:
        kinds = ["pcie-root", *["pcie-root-port"] * self.ports] if self.ports else []
        return "".join(f"<controller type='pci' index='{i}' model='{kind}'/>" for i, kind in enumerate(kinds))

    def define(self) -> None:
        written(f"{self.name}.bin", self.firmware)
        done = virsh("define", written(f"{self.name}.xml", self.xml()))
        if not done.ok:
            raise Failed(f"define {self.name}: {done}")

    def start(self) -> Done:
        """Start a defined domain; a refusal is an answer, not an exception."""
        return virsh("start", self.name, limit=START_LIMIT)

    def must_start(self) -> None:
        done = self.start()
        if not done.ok:
            raise Failed(f"start {self.name}: {done}")

    def destroy(self) -> None:
        done = virsh("destroy", self.name)
        if not done.ok:
            raise Failed(f"destroy {self.name}: {done}")

    def state(self) -> str:
        return virsh("domstate", self.name).out.strip()

    @contextmanager
    def defined(self) -> Iterator["Domain"]:
        """Known to libvirt inside; stopped and forgotten afterwards, whatever happened."""
        self.define()
        try:
            yield self
        finally:
            virsh("destroy", self.name)
            virsh("undefine", self.name)


def written(name: str, content: str | bytes) -> str:
    """The path of a file with this content."""
    os.makedirs(FOLDER, exist_ok=True)
    path = os.path.join(FOLDER, name)
    with open(path, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path


def libvirt_version() -> tuple[int, int]:
    first, second, *_ = need("virsh", "--version").split(".")
    return int(first), int(second)


def forget_all() -> None:
    """No domain runs or is defined afterwards."""
    for name in virsh("list", "--name").out.split():
        virsh("destroy", name)
    for name in virsh("list", "--all", "--name").out.split():
        virsh("undefine", name)
