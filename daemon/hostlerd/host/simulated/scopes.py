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
        for thread in threads:
            self._kernel.cgroups.make(f"{path}/libvirt/{thread}")
        if self._kernel.cgroups.unified:
            self._kernel.cgroups.control(f"{path}/libvirt")

    def pin(self, domain: Domain, kind: str, number: int, cpus: CpuSet) -> None:
        """virProcessSetAffinity: EINVAL where nothing of the mask is in the cpuset (__set_cpus_allowed_ptr)."""
        thread = {"vcpupin": f"vcpu{number}", "iothreadpin": f"iothread{number}"}.get(kind, "emulator")
        cgroups = self._kernel.cgroups
        path = f"/machine.slice/{domain.unit}/libvirt"
        if cgroups.unified:  # libvirt writes it first, and leaves it there when the affinity is refused
            cgroups.ask(f"{path}/{thread}", cpus & cgroups.cpus)
        if (
            not cpus & cgroups.effective(path)
            or self._kernel.faults.get("pin-fails", domain.name) is not None
        ):
            raise HostFailed(
                f"cannot set CPU affinity on process {domain.pid}: Invalid argument",
                data={"object": domain.name},
            )

    def end(self, domain: Domain) -> None:
        if domain.unit:
            self._units.stop(domain.unit)
            domain.unit = ""
