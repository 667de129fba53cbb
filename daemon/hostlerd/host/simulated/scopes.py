"""A running domain's scope, the groups that libvirt makes in it, and where its threads may run."""

from __future__ import annotations

import re

from hostler.errors import HostFailed
from hostlerd.host.simulated import domain_text
from hostlerd.host.simulated.domains import Domain
from hostlerd.host.simulated.kernel import Kernel
from hostlerd.host.simulated.systemd import SimulatedUnits
from hostlerd.model.cpuset import CpuSet


class Scopes:
    def __init__(self, kernel: Kernel, units: SimulatedUnits) -> None:
        self._kernel = kernel
        self._units = units

    def make(self, domain: Domain) -> None:
        """virSystemdCreateMachine: machine-qemu\\x2dN\\x2dNAME.scope in machine.slice, libvirt's own groups below."""
        machine = re.sub(
            r"[^a-zA-Z0-9_.]", lambda m: f"\\x{ord(m[0]):02x}", f"qemu-{domain.number}-{domain.name}"
        )
        domain.unit = f"machine-{machine}.scope"
        path = f"/machine.slice/{domain.unit}"
        self._units.start(domain.unit, path, delegate=True)
        live = domain.live or ""
        threads = ["emulator", *(f"vcpu{n}" for n in range(domain_text.vcpus(live)))]
        threads += [f"iothread{n}" for n in domain_text.iothreads(live)]
        if self._kernel.cgroups.unified and self._kernel.faults.get("no-cpusets", domain.name) is None:
            self._kernel.cgroups.make(f"{path}/libvirt")
            self._kernel.cgroups.control(f"{path}/libvirt")
        self._kernel.tree.put(f"/run/libvirt/qemu/{domain.name}.pid", f"{domain.pid}")
        for thread in threads:
            self._begin(domain, thread)

    def _begin(self, domain: Domain, thread: str) -> None:
        """virCgroupNewThread."""
        group = f"/machine.slice/{domain.unit}/libvirt/{thread}"
        self._kernel.cgroups.make(group)
        self._kernel.threads.start(domain.pid, thread, group)

    def plug(self, domain: Domain, vcpu: int) -> None:
        """A vCPU comes while it runs; no event of libvirt's tells (qemuDomainHotplugAddVcpu).

        Its folder does: it is made by mkdir(2), which inotify sees in control groups as anywhere (vfs_mkdir).
        """
        self._begin(domain, f"vcpu{vcpu}")
        pin = domain_text.pins(domain.live or "").get(("vcpupin", vcpu))
        if pin is not None:  # qemuProcessSetupVcpu
            self.pin(domain, "vcpupin", vcpu, pin)
        self._tell()

    def unplug(self, domain: Domain, vcpu: int) -> None:
        """Its pin stays in the live XML, and is there again when it comes back."""
        self._kernel.threads.end(domain.pid, f"vcpu{vcpu}")
        self._kernel.cgroups.remove(f"/machine.slice/{domain.unit}/libvirt/vcpu{vcpu}")
        self._tell()

    def _tell(self) -> None:
        for kick in self._kernel.thread_kicks:
            kick()

    def pin(self, domain: Domain, kind: str, number: int, cpus: CpuSet) -> None:
        """virProcessSetAffinity: EINVAL where nothing of the mask is in the cpuset (__set_cpus_allowed_ptr)."""
        thread = {"vcpupin": f"vcpu{number}", "iothreadpin": f"iothread{number}"}.get(kind, "emulator")
        cgroups = self._kernel.cgroups
        path = f"/machine.slice/{domain.unit}/libvirt"
        if cgroups.unified and cgroups.controlled(
            path
        ):  # libvirt writes it first, and leaves it there when the affinity is refused
            cgroups.ask(f"{path}/{thread}", cpus & cgroups.cpus)
        if (
            not cpus & cgroups.effective(path)
            or self._kernel.faults.get("pin-fails", domain.name) is not None
        ):
            raise HostFailed(
                f"cannot set CPU affinity on process {domain.pid}: Invalid argument",
                data={"object": domain.name},
            )
        self._kernel.threads.pin(domain.pid, thread, cpus)

    def end(self, domain: Domain) -> None:
        if domain.unit:
            self._kernel.threads.end(domain.pid)
            self._kernel.tree.discard(f"/run/libvirt/qemu/{domain.name}.pid")
            self._units.stop(domain.unit)
            domain.unit = ""
