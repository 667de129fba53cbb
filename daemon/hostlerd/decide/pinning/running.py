"""The assignment that a domain has now, or will have as it begins: what we put it on, as far as that is in force."""

from __future__ import annotations

from hostlerd.decide.pinning.ours import is_ours
from hostlerd.decide.pinning.tenant import Tenant
from hostlerd.decide.placement import Assignment
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list
from hostlerd.model.observed import Observed

NOWHERE = -1
"""A vCPU that is not on a CPU of ours: just plugged in, or its CPU went off line. The planner finds it one, and the
others stay."""


def assignment_of(tenant: Tenant, observed: Observed) -> Assignment | None:
    """By the tenant's free vCPUs. None if none of them is on a CPU of its own."""
    record, online = tenant.begun, observed.topology.online
    if record is None:
        return None
    live = tenant.definition
    vcpus: list[int] = []
    for vcpu in tenant.free_vcpus:
        cpus = live.vcpu_pins.get(vcpu)
        cpu = min(cpus) if cpus and len(cpus) == 1 and is_ours(cpus, record.vcpus.get(vcpu)) else NOWHERE
        vcpus.append(cpu if cpu in online and cpu not in vcpus else NOWHERE)
    while vcpus and vcpus[-1] == NOWHERE:
        vcpus.pop()
    if not vcpus:
        return None
    idle = (parse_cpu_list(record.idle) & online).difference(vcpus)
    emulator = (_emulators(tenant) & online - idle).difference(vcpus)
    return Assignment(vcpus=tuple(vcpus), emulator=tuple(sorted(emulator)), idle=tuple(sorted(idle)))


def _emulators(tenant: Tenant) -> CpuSet:
    """The CPUs recorded as its emulator's own, if something is on them."""
    record, running = tenant.record, tenant.running
    if record is None or running is None or not record.own:
        return frozenset()
    own = parse_cpu_list(record.own)
    pins = [running.live.emulator_pins, *running.live.iothread_pins.values()]
    return own if format_cpu_list(own) in [format_cpu_list(p) for p in pins if p] else frozenset()
