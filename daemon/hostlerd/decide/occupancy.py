"""Who has each CPU, for the map of the host. Pure, and cheap: it reads off what was decided.

A CPU that a domain has is that domain's; one that several have by their own pins is listed once for each. What floats
has no CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hostlerd.decide.pinning import Tenant
from hostlerd.model.cpus import Topology
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.explanation import CpuOwner, OwnerKind
from hostlerd.model.plan import Placement
from hostlerd.model.programs import Program


def cpu_owners(
    topology: Topology,
    reserved: CpuSet,
    domains: Iterable[Tenant],
    placements: Mapping[str, Placement],
    programs: Iterable[Program] = (),
) -> tuple[CpuOwner, ...]:
    """Of every CPU, in order. `reserved`: those that the host never gives away."""
    found: dict[int, dict[CpuOwner, None]] = {cpu: {} for cpu in sorted(topology.possible)}
    for tenant in domains:
        for owner in _of_domain(tenant, placements.get(tenant.definition.uuid), topology):
            if owner.cpu in found:
                found[owner.cpu][owner] = None
    for program in programs:
        for cpu in sorted(program.taken & found.keys()):
            kind: OwnerKind = "program" if cpu in program.own else "idle"
            found[cpu][CpuOwner(cpu=cpu, kind=kind, domain=program.name)] = None
    return tuple(
        owner
        for cpu, owners in found.items()
        for owner in owners or [CpuOwner(cpu=cpu, kind=_nobodys(topology, reserved, cpu))]
    )


def _of_domain(tenant: Tenant, placement: Placement | None, topology: Topology) -> Iterator[CpuOwner]:
    def owned(kind: OwnerKind, cpus: CpuSet, vcpu: int | None = None) -> Iterator[CpuOwner]:
        for cpu in sorted(cpus):
            yield CpuOwner(cpu=cpu, kind=kind, domain=tenant.definition.name, vcpu=vcpu)

    for vcpu, cpus in tenant.pins.items():
        if not cpus >= topology.online:  # a pin to all says "anywhere"
            yield from owned("pinned", cpus, vcpu if len(cpus) == 1 else None)
    if placement is not None and placement.vcpus is not None:
        for vcpu, cpus in zip(tenant.definition.present, placement.vcpus, strict=True):
            if vcpu not in tenant.pins:
                yield from owned("vcpu", cpus, vcpu)
        yield from owned("emulator", placement.emulator)
        yield from owned("idle", placement.idle)


def _nobodys(topology: Topology, reserved: CpuSet, cpu: int) -> OwnerKind:
    if cpu in topology.offline:
        return "offline"
    if cpu in reserved:
        return "reserved"
    return "isolated" if cpu in topology.isolated else "host"
