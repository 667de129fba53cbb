"""Where threads go that have no CPUs of their own: the host's CPUs, and while they starve what nobody uses.

The scheduler does not balance CPUs that were isolated at boot (isolcpus=): threads that float there pile up on one. So
they are floated on only where nothing else is left; libvirt, too, starts domains off them
(virHostCPUGetIsolated).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hostlerd.decide.pinning.tenant import Tenant
from hostlerd.model.cpus import Topology
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """CPUs of `owner` (UUID) that shared domains may use for now. `why`: for people."""

    owner: str
    cpus: CpuSet
    why: str


def floats_on(topology: Topology, cpus: CpuSet) -> CpuSet:
    """Of `cpus`, those a thread may float on."""
    return cpus - topology.isolated or cpus


def lent(
    observed: Observed, domains: Iterable[Tenant], placements: Mapping[str, Placement], dedicated: CpuSet
) -> tuple[Lent, ...]:
    """While shared domains starve: the CPUs of those that are paused, and siblings that are empty but need not be.

    `dedicated`: those that are domains' own; nobody lends what is not theirs alone.
    """
    if not observed.starving:
        return ()
    domains = tuple(domains)
    others = frozenset[int]().union(
        *(p.taken for t in domains if not t.paused and (p := placements.get(t.uuid)) is not None)
    )
    found: list[Lent] = []
    for tenant in domains:
        placement = placements.get(tenant.uuid)
        if placement is None or placement.vcpus is None or tenant.running is None:
            continue
        if tenant.paused:
            cpus, why = (
                placement.taken - placement.emulator - others,
                f"{tenant.name} is {tenant.running.state}",
            )
        elif tenant.policy.smt != "isolate":
            cpus, why = placement.idle, f"siblings that {tenant.name} leaves empty"
        else:
            continue
        cpus &= dedicated
        if cpus:
            found.append(Lent(owner=tenant.uuid, cpus=cpus, why=f"{format_cpu_list(cpus)}: {why}"))
    return tuple(found)
