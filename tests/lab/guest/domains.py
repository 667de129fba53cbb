"""Domains: their XML, and starting, stopping and removing them through virsh.

Emulated (`type='qemu'`), no disk, no display: the firmware runs and finds nothing to boot. Every MiB of memory costs
time at start, because the emulated IOMMU maps page by page.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from .programs import Done, Failed, virsh

START_LIMIT = 180.0
FOLDER = "/run/lab"

# A port of this machine type lets a device go at once if the guest never powered its slot; newer types ask the guest's
# ACPI, and without an operating system in the guest nobody answers.
UNPLUGS = "pc-q35-6.0"


def hostdev(address: str, *, managed: bool) -> str:
    segment, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return (
        f"<hostdev mode='subsystem' type='pci' managed='{'yes' if managed else 'no'}'><source><address "
        f"domain='0x{segment}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/></source>"
        "<rom bar='off'/></hostdev>"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    name: str
    vcpus: int = 2
    threads: int = 1
    memory: int = 128
    hostdevs: tuple[str, ...] = ()
    managed: bool = True
    pins: Mapping[int, str] = field(default_factory=dict)
    iothreads: int = 0
    machine: str = "pc"
    ports: int = 0
    """Empty PCIe ports, for devices that come while it runs; only on a q35 machine."""
    firmware: str = ""
    """A loader file; with one that is none, QEMU gives up: a start that fails after the hook's prepare."""

    def xml(self) -> str:
        pins = "".join(f"<vcpupin vcpu='{vcpu}' cpuset='{cpus}'/>" for vcpu, cpus in self.pins.items())
        loader = f"<loader readonly='yes' type='rom'>{self.firmware}</loader>" if self.firmware else ""
        return f"""<domain type='qemu'>
  <name>{self.name}</name>
  <memory unit='MiB'>{self.memory}</memory>
  <vcpu>{self.vcpus}</vcpu>
  {f"<iothreads>{self.iothreads}</iothreads>" if self.iothreads else ""}
  {f"<cputune>{pins}</cputune>" if pins else ""}
  <os><type arch='x86_64' machine='{self.machine}'>hvm</type>{loader}</os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model fallback='allow'>qemu64</model>
    <topology sockets='1' dies='1' cores='{self.vcpus // self.threads}' threads='{self.threads}'/></cpu>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {self._ports()}
    {"".join(hostdev(address, managed=self.managed) for address in self.hostdevs)}
  </devices>
</domain>
"""

    def _ports(self) -> str:
        kinds = ["pcie-root", *["pcie-root-port"] * self.ports] if self.ports else []
        return "".join(f"<controller type='pci' index='{i}' model='{kind}'/>" for i, kind in enumerate(kinds))

    def define(self) -> None:
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


def written(name: str, text: str) -> str:
    """The path of a file with this text."""
    os.makedirs(FOLDER, exist_ok=True)
    path = os.path.join(FOLDER, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def forget_all() -> None:
    """No domain runs or is defined afterwards."""
    for name in virsh("list", "--name").out.split():
        virsh("destroy", name)
    for name in virsh("list", "--all", "--name").out.split():
        virsh("undefine", name)
