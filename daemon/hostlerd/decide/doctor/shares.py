"""Which CPUs domains would have to themselves, all started: what a boot parameter would have to say.

Where domains are defined it is the planner that says it, for all that can run at once. Where there are none, the host
keeps the level-3 domain it boots on, and one on every other node (cpu-isolation.rst: a housekeeping CPU a node), and
domains get the others; where that leaves none, it keeps the first cores, and of cores of several classes the small
ones. Whole cores always, and never the CPU it boots on: the kernel takes that out of nohz_full=
(Documentation/timers/no_hz.rst).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hostlerd.decide import decide
from hostlerd.model.checkup import Checkup
from hostlerd.model.cpus import CoreClass, Topology
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.ledger import Claim
from hostlerd.model.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`cpus`: for domains. `whom`: their names. `known`: domains could be looked at, so that empty means none.

    `fitting`: what a boot parameter may name: `cpus`, and as long as no domain is defined, what domains could have.
    """

    cpus: CpuSet = frozenset()
    whom: tuple[str, ...] = ()
    realtime: tuple[str, ...] = ()
    """Those of the profile realtime."""
    known: bool = False
    fitting: CpuSet = frozenset()


def share(checkup: Checkup, settings: Settings) -> Share:
    """What the domains that are defined would get."""
    observed = checkup.observed
    if not checkup.domains or not checkup.described:
        return Share()
    claims = dict(observed.ledger.claims)
    for count, domain in enumerate(observed.snapshot.inactive, 1 + len(claims)):
        claims.setdefault(domain.uuid, Claim(definition=domain, since=count))
    plan = decide(replace(observed, ledger=replace(observed.ledger, claims=claims)), settings)
    names = {c.uuid: c.name for c in claims.values()} | {r.uuid: r.name for r in observed.snapshot.running}
    cpus = _whole(observed.topology, plan.dedicated, _kept(observed.topology, settings))
    having = [p.uuid for p in plan.placements if p.taken & plan.dedicated and p.uuid in names]
    return Share(
        cpus=cpus,
        whom=tuple(sorted(names[uuid] for uuid in having)),
        realtime=tuple(
            sorted(n for u, n in names.items() if u in having and settings.domain(n, u).profile == "realtime")
        ),
        known=True,
        fitting=cpus if names else room(observed.topology, settings),
    )


def room(topology: Topology, settings: Settings) -> CpuSet:
    """What domains could have at most, without leaving the host too little."""
    if settings.domains.cpus in ("shared", "off") or not topology.cpus:
        return frozenset()
    kept = set(_kept(topology, settings))
    first = topology.cpus[0]
    for node in topology.nodes:  # each is to keep a core for the kernel's own work on its memory
        near = [cpu for cpu in topology.cpus if cpu.node == node.id]
        kept |= near[0].siblings if near else frozenset()
    home = [cpu for cpu in topology.cpus if cpu.l3 == first.l3]
    big = frozenset(c.id for c in topology.cpus if c.core_class is CoreClass.PERFORMANCE)
    small = frozenset(
        c.id for c in topology.cpus if c.core_class in (CoreClass.EFFICIENCY, CoreClass.LOW_POWER)
    )
    if big and small:
        kept |= small
    for cpu in home:
        if len(kept) < settings.housekeeping.at_least:
            kept |= cpu.siblings
    free = frozenset(cpu.id for cpu in topology.cpus if not cpu.siblings & kept)
    whole = [l3.cpus for l3 in topology.l3 if l3.cpus & topology.online <= free]
    if len(topology.l3) > 1 and not (big and small):
        free = frozenset[int]().union(*whole) & topology.online if whole else free
    return free


def _kept(topology: Topology, settings: Settings) -> CpuSet:
    """The CPUs that stay the host's in any case, without the rest of their cores, and the core it boots on."""
    boot = topology.cpus[0].siblings if topology.cpus else frozenset[int]()
    return (settings.housekeeping.cpus & topology.online) | boot


def _whole(topology: Topology, cpus: CpuSet, kept: CpuSet) -> CpuSet:
    """With the siblings of each, but for what is the host's."""
    cores = (topology.by_id[cpu].siblings for cpu in cpus if cpu in topology.by_id)
    return _union(cores) - kept


def _union(sets: Iterable[CpuSet]) -> CpuSet:
    return frozenset[int]().union(*sets)
