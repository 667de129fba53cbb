"""Everybody's place: what the planner makes of the needs, and what users have pinned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from hostlerd.decide.living import living
from hostlerd.decide.pinning.needs import need_of
from hostlerd.decide.pinning.running import NOWHERE, assignment_of
from hostlerd.decide.pinning.tenant import Tenant
from hostlerd.decide.placement import Assignment, Host, Need, place
from hostlerd.model.cpus import Topology
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Placement
from hostlerd.model.settings import Settings

NOBODYS: CpuSet = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the planner is asked. A need's name is its domain's UUID, its vCPUs are the tenant's free ones."""

    host: Host
    needs: tuple[Need, ...]
    current: Mapping[str, Assignment | None]


def decide_placement(
    observed: Observed, settings: Settings, domains: Iterable[Tenant], programs: CpuSet = NOBODYS
) -> dict[str, Placement]:
    """By UUID; domains with `cpus = "off"` have none, but nobody is put where they are pinned.

    `programs`: CPUs that programs are about to be given, beside those that they have.
    """
    domains = tuple(domains)
    everyone = [tenant for tenant in domains if tenant.mode != "off"]
    asked = ask(observed, settings, domains, programs)
    assignments = place(asked.host, asked.needs, asked.current).assignments if asked.needs else {}
    return {tenant.uuid: _placement(tenant, assignments.get(tenant.uuid)) for tenant in everyone}


def ask(
    observed: Observed, settings: Settings, domains: Iterable[Tenant], programs: CpuSet = NOBODYS
) -> Asked:
    domains = tuple(domains)
    movable = [tenant for tenant in domains if tenant.mode == "dedicated" and tenant.free_vcpus]
    current = _whereabouts(movable, observed)
    needs = tuple(need_of(tenant, observed, current[tenant.uuid]) for tenant in movable)
    host = host_of(observed, settings, domains, programs)
    return Asked(host=host, needs=needs, current=current)


def _whereabouts(domains: Iterable[Tenant], observed: Observed) -> dict[str, Assignment | None]:
    """Where each is, no two on one CPU.

    Two that were off may have been given the same to begin on, and a vCPU that is plugged in again comes back to a CPU
    that another has by now. Who never moves comes first, and whoever comes later loses no more than that CPU.
    """
    found: dict[str, Assignment | None] = {}
    taken = set[int]()
    for tenant in sorted(domains, key=lambda t: (t.uuid not in observed.ledger.pins, t.policy.rebalance)):
        assignment = assignment_of(tenant, observed)
        found[tenant.uuid] = None if assignment is None else _without(assignment, taken)
        taken |= frozenset(assignment.cpus if assignment is not None else ()) - {NOWHERE}
    return found


def _without(assignment: Assignment, taken: AbstractSet[int]) -> Assignment | None:
    vcpus = [NOWHERE if cpu in taken else cpu for cpu in assignment.vcpus]
    while vcpus and vcpus[-1] == NOWHERE:
        vcpus.pop()
    if not vcpus:
        return None
    emulator = tuple(cpu for cpu in assignment.emulator if cpu not in taken)
    idle = tuple(cpu for cpu in assignment.idle if cpu not in taken)
    return Assignment(vcpus=tuple(vcpus), emulator=emulator, idle=idle)


def host_of(
    observed: Observed, settings: Settings, domains: Iterable[Tenant], programs: CpuSet = NOBODYS
) -> Host:
    """The host as the planner gets it: nobody is put where a user pinned something, or where a program is."""
    online = observed.topology.online
    taken = programs.union(
        *(_taken(tenant, online) for tenant in domains), *(one.taken for one in living(observed))
    )
    return Host(
        topology=observed.topology,
        must=(settings.housekeeping.cpus & online) | _kept(observed.topology, settings.housekeeping.at_least),
        min_cpus=settings.housekeeping.at_least,
        taken=taken & online,
        gpu_nodes=frozenset(
            f.numa_node for f in observed.functions.values() if f.is_display and f.numa_node is not None
        ),
    )


def _kept(topology: Topology, at_least: int) -> CpuSet:
    """Where CPUs were isolated at boot, those the host keeps are none of them: nothing can float there."""
    if not topology.isolated & topology.online:
        return frozenset()
    return frozenset(sorted(topology.online - topology.isolated)[:at_least])


def _taken(tenant: Tenant, online: CpuSet) -> CpuSet:
    """A pin to all CPUs says "anywhere" and takes none; by a definition, only where the domain shares CPUs."""
    definitions = {i: cpus for i, cpus in tenant.pins.items() if i not in tenant.hand.vcpus}
    explicit = frozenset[int]().union(*definitions.values())
    hand = frozenset[int]().union(*(cpus for cpus in tenant.hand.sets if not cpus >= online))
    taken = explicit if tenant.mode == "dedicated" or explicit != online else frozenset[int]()
    return taken | hand | _still_on(tenant)


def _still_on(tenant: Tenant) -> CpuSet:
    """The CPUs of vCPUs that were pinned in the definition alone: until the next start they are where they were."""
    live: Mapping[int, CpuSet] = tenant.running.live.vcpu_pins if tenant.running else {}
    return frozenset().union(*(cpus for i in tenant.pins if len(cpus := live.get(i, frozenset[int]())) == 1))


def _placement(tenant: Tenant, assignment: Assignment | None) -> Placement:
    free = tenant.free_vcpus
    if tenant.mode == "shared" or (free and assignment is None):
        return Placement(uuid=tenant.uuid, vcpus=None, explicit=tenant.explicit)
    spots = dict(zip(free, assignment.vcpus, strict=True)) if assignment else {}
    return Placement(
        uuid=tenant.uuid,
        vcpus=tuple(
            tenant.pins[i] if i in tenant.pins else frozenset({spots[i]}) for i in tenant.definition.present
        ),
        emulator=frozenset(assignment.emulator) if assignment else frozenset(),
        idle=frozenset(assignment.idle) if assignment else frozenset(),
        explicit=tenant.explicit,
    )
