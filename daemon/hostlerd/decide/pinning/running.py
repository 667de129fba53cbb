"""The assignment that a domain has now, or will have as it begins: what we put it on, as far as that is in force."""

from __future__ import annotations

from hostlerd.decide.pinning.ours import is_ours, wanted
from hostlerd.decide.pinning.tenant import Tenant
from hostlerd.decide.placement import Assignment
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list
from hostlerd.model.observed import Observed

NOWHERE = -1
"""A vCPU that is not on a CPU of ours: just plugged in, or its CPU went off line. The planner finds it one, and the
others stay."""


def assignment_of(tenant: Tenant, observed: Observed) -> Assignment | None:
    """By the tenant's free vCPUs. None if none of them is on a CPU of its own.

    One that is being moved counts as where it goes: the snapshot of one lane may be older than a pin of the other, and
    what was decided a moment ago must not be undone for that.
    """
    record, online = tenant.begun, observed.topology.online
    if record is None:
        return None
    live = tenant.definition
    vcpus: list[int] = []
    away = parse_cpu_list(record.away)  # who comes back has no place: another may have it by now
    for vcpu in tenant.free_vcpus:
        cpus = live.vcpu_pins.get(vcpu)
        entry = record.vcpus.get(vcpu)
        goes = wanted(entry) if is_ours(cpus, entry) and vcpu not in away else frozenset[int]()
        cpu = min(goes) if len(goes) == 1 else NOWHERE
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
