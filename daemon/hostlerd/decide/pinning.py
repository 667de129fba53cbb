"""Which CPUs each domain's threads belong on, and the pins that still differ.

Pure. What a domain's own definition pins is never touched, and nobody else is put there. What the planner
(decide/placement) assigns is one CPU per vCPU; the emulator and the iothreads stay on the host's CPUs. Shared domains
float on the host's CPUs as soon as any CPU is dedicated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from hostlerd.decide.guest_memory import memory_nodes
from hostlerd.decide.placement import Assignment, Host, Need, place
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list
from hostlerd.model.domains import Definition, Running
from hostlerd.model.edits import users_own, written_pins
from hostlerd.model.ledger import PinRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Pin, Placement
from hostlerd.model.settings import Settings

Mode = Literal["dedicated", "shared", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A domain as placement sees it. `pins`: explicit ones by vCPU. `running` is None until its guest runs."""

    definition: Definition
    mode: Mode
    profile: str
    rebalance: bool
    prefer: Literal["vcache", "frequency", "none"]
    pins: Mapping[int, CpuSet]
    emulator_pinned: bool
    iothreads_pinned: frozenset[int]
    running: Running | None

    @property
    def explicit(self) -> CpuSet:
        return frozenset().union(*self.pins.values())

    @property
    def free_vcpus(self) -> list[int]:
        return [i for i in range(self.definition.vcpus) if i not in self.pins]


def tenants(observed: Observed, settings: Settings) -> list[Tenant]:
    """Running domains and prepared ones, by UUID."""
    found: dict[str, Tenant] = {}
    claims = observed.ledger.claims
    for running in observed.snapshot.running:
        claim = claims.get(running.uuid)
        source = running.definition or (claim.definition if claim else None)
        record = observed.ledger.pins.get(running.uuid)
        if source is None:
            source = _without_ours(running.live, record)
        source = users_own(source, observed.edits)
        found[running.uuid] = _tenant(running.live, source, settings, running)
    for claim in claims.values():
        if claim.uuid not in found:
            source = users_own(claim.definition, observed.edits)
            found[claim.uuid] = _tenant(claim.definition, source, settings, None)
    return [found[uuid] for uuid in sorted(found)]


def _without_ours(live: Definition, record: PinRecord | None) -> Definition:
    """A transient domain we did not see start: what is pinned and not by us is the user's."""
    ours = record.vcpus if record else {}
    pins = {i: cpus for i, cpus in live.vcpu_pins.items() if not _is_ours(cpus, ours.get(i))}
    iothreads = record.iothreads if record else {}
    emulator = live.emulator_pins
    if emulator is not None and record is not None and _is_ours(emulator, record.emulator):
        emulator = None
    return Definition(
        name=live.name,
        uuid=live.uuid,
        vcpu_pins=pins,
        cpuset=live.cpuset,
        emulator_pins=emulator,
        iothread_pins={i: c for i, c in live.iothread_pins.items() if not _is_ours(c, iothreads.get(i))},
    )


def _is_ours(cpus: CpuSet, recorded: str | None) -> bool:
    return recorded is not None and format_cpu_list(cpus) in recorded.split()


def _recorded(now: CpuSet | None, recorded: str | None, cpus: CpuSet) -> str:
    """What to record of a thread: the pin to come and, until it has come, the one of ours that is in force."""
    text = format_cpu_list(cpus)
    if now is None or now == cpus or not _is_ours(now, recorded):
        return text
    return f"{format_cpu_list(now)} {text}"


def _tenant(
    definition: Definition, source: Definition, settings: Settings, running: Running | None
) -> Tenant:
    policy = settings.domain(definition.name, definition.uuid)
    mode: Mode = (
        policy.cpus if policy.cpus != "auto" else ("dedicated" if definition.pci_addresses else "shared")
    )
    pins = {i: cpus for i, cpus in source.vcpu_pins.items() if i < definition.vcpus}
    if source.cpuset:
        pins = {i: pins.get(i, source.cpuset) for i in range(definition.vcpus)}
    return Tenant(
        definition=definition,
        mode=mode,
        profile=policy.profile,
        rebalance=policy.rebalance,
        prefer=policy.prefer,
        pins=pins,
        emulator_pinned=source.emulator_pins is not None or bool(source.cpuset),
        iothreads_pinned=frozenset(source.iothread_pins),
        running=running,
    )


def decide_placement(
    observed: Observed, settings: Settings, domains: Iterable[Tenant]
) -> dict[str, Placement]:
    """By UUID; domains with `cpus = "off"` have none, but nobody is put where they are pinned."""
    domains = tuple(domains)
    everyone = [tenant for tenant in domains if tenant.mode != "off"]
    topology = observed.topology
    taken = frozenset().union(
        *(t.explicit for t in domains if t.mode == "dedicated" or _is_narrow(t, observed)),
        *(_still_on(tenant) for tenant in domains),
    )
    gpu_nodes = frozenset(
        f.numa_node for f in observed.functions.values() if f.is_display and f.numa_node is not None
    )
    movable = [tenant for tenant in everyone if tenant.mode == "dedicated" and tenant.free_vcpus]
    current = _whereabouts(movable, observed)
    needs = [_need(tenant, observed, current[tenant.definition.uuid]) for tenant in movable]
    assignments: Mapping[str, Assignment | None] = {}
    if needs:
        host = Host(
            topology=topology,
            must=settings.housekeeping.cpus & topology.online,
            min_cpus=settings.housekeeping.at_least,
            taken=taken & topology.online,
            gpu_nodes=gpu_nodes,
        )
        assignments = place(host, needs, current).assignments
    return {t.definition.uuid: _placement(t, assignments.get(t.definition.uuid)) for t in everyone}


def _is_narrow(tenant: Tenant, observed: Observed) -> bool:
    """A shared domain's pins take CPUs, unless they only say "anywhere"."""
    return tenant.explicit != observed.topology.online


def _still_on(tenant: Tenant) -> CpuSet:
    """The CPUs of vCPUs that were pinned in the definition alone: until the next start they are where they were."""
    live: Mapping[int, CpuSet] = tenant.running.live.vcpu_pins if tenant.running else {}
    return frozenset().union(*(cpus for i in tenant.pins if len(cpus := live.get(i, frozenset[int]())) == 1))


def _need(tenant: Tenant, observed: Observed, current: Assignment | None) -> Need:
    definition, free = tenant.definition, tenant.free_vcpus
    threads = definition.topology.threads if definition.topology else 1
    if threads > 2 or len(free) != definition.vcpus or definition.vcpus % threads:
        threads = 1
    index = {vcpu: i for i, vcpu in enumerate(free)}
    cells = tuple(tuple(index[v] for v in sorted(cell.cpus) if v in index) for cell in definition.cells)
    numbers = tuple(number for number, cell in enumerate(cells) if cell)
    cells = tuple(cell for cell in cells if cell)
    if len(cells) < 2 or sum(map(len, cells)) != len(free):
        cells = ()
    nodes = [
        function.numa_node
        for address in definition.pci_addresses
        if (function := observed.functions.get(address)) is not None and function.numa_node is not None
        for _ in range(2 if function.is_display else 1)
    ]
    by_id = observed.topology.by_id
    memory = memory_nodes(observed, definition, numbers if cells else ())
    if current is not None and not memory:
        memory = tuple(
            frozenset(by_id[current.vcpus[i]].node for i in cell)
            for cell in (cells or (tuple(range(len(free))),))
        )
    return Need(
        name=definition.uuid,
        vcpus=len(free),
        threads=threads,
        cells=cells,
        gpu_node=max(nodes, key=lambda node: (nodes.count(node), -node)) if nodes else None,
        prefer=tenant.prefer,
        memory=memory,
        movable=tenant.rebalance,
    )


def _whereabouts(domains: Iterable[Tenant], observed: Observed) -> dict[str, Assignment | None]:
    """Where each is, no two on one CPU: two that were off may have been given the same to begin on."""
    found: dict[str, Assignment | None] = {}
    taken = set[int]()
    for tenant in sorted(domains, key=lambda t: t.definition.uuid not in observed.ledger.pins):
        assignment = _current(tenant, observed)
        if assignment is not None and taken.isdisjoint(assignment.cpus):
            taken.update(assignment.cpus)
        else:
            assignment = None
        found[tenant.definition.uuid] = assignment
    return found


def _current(tenant: Tenant, observed: Observed) -> Assignment | None:
    """Where our pins put it, or will as it begins, if they are all in force on CPUs that are on line."""
    record = begun_pins(observed, tenant.definition.uuid)
    if record is None:
        return None
    live = tenant.definition.vcpu_pins
    vcpus: list[int] = []
    for vcpu in tenant.free_vcpus:
        cpus = live.get(vcpu, frozenset[int]())
        if (
            len(cpus) != 1
            or not cpus <= observed.topology.online
            or not _is_ours(cpus, record.vcpus.get(vcpu))
        ):
            return None
        vcpus.append(next(iter(cpus)))
    if len(set(vcpus)) != len(vcpus):
        return None
    idle = parse_cpu_list(record.idle) & observed.topology.online - frozenset(vcpus)
    return Assignment(vcpus=tuple(vcpus), emulator=(), idle=tuple(sorted(idle)))


def begun_pins(observed: Observed, uuid: str) -> PinRecord | None:
    """Which of a domain's pins are ours: those that we set while it runs, or else wrote into its definition."""
    record, written = observed.ledger.pins.get(uuid), written_pins(observed.edits, uuid)
    if not written.vcpus:
        return record
    if record is None:
        return PinRecord(uuid=uuid, vcpus=dict(written.vcpus), emulator=written.emulator)
    both = {i: f"{record.vcpus.get(i, '')} {cpus}".strip() for i, cpus in written.vcpus}
    return replace(record, vcpus={**record.vcpus, **both})


def _placement(tenant: Tenant, assignment: Assignment | None) -> Placement:
    uuid, free = tenant.definition.uuid, tenant.free_vcpus
    if tenant.mode == "shared" or (free and assignment is None):
        return Placement(uuid=uuid, vcpus=None, explicit=tenant.explicit)
    spots = dict(zip(free, assignment.vcpus, strict=True)) if assignment else {}
    return Placement(
        uuid=uuid,
        vcpus=tuple(
            tenant.pins[i] if i in tenant.pins else frozenset({spots[i]})
            for i in range(tenant.definition.vcpus)
        ),
        idle=frozenset(assignment.idle) if assignment else frozenset(),
        explicit=tenant.explicit,
    )


def decide_pins(
    observed: Observed, domains: Iterable[Tenant], placements: Mapping[str, Placement], housekeeping: CpuSet
) -> tuple[list[Pin], list[str]]:
    """Pins that differ, for domains whose guest runs, and the UUIDs whose record can be closed."""
    steps: list[Pin] = []
    gone: list[str] = []
    present = set[str]()
    crowded = housekeeping != observed.topology.online
    for tenant in domains:
        uuid = tenant.definition.uuid
        present.add(uuid)
        if tenant.running is None or observed.ledger.untouchable(uuid):
            continue
        record, live = observed.ledger.pins.get(uuid), tenant.running.live
        placement = placements.get(uuid) or Placement(uuid=uuid, vcpus=None)
        hands_off = tenant.mode == "off"
        float_on = housekeeping if crowded and not hands_off else observed.topology.online
        if placement.vcpus is None and record is None and (hands_off or not crowded):
            continue
        more = _differences(tenant, live, placement, float_on, record)
        steps += more
        if hands_off and not more:
            gone.append(uuid)
    gone += [uuid for uuid in observed.ledger.pins if observed.snapshot.known and uuid not in present]
    return steps, gone


def _differences(
    tenant: Tenant, live: Definition, placement: Placement, float_on: CpuSet, record: PinRecord | None
) -> list[Pin]:
    dedicated = placement.vcpus is not None
    why = "its own CPU, nobody else's" if dedicated else "shared domains float on the host's CPUs"
    vcpus = {i: placement.vcpus[i] if placement.vcpus is not None else float_on for i in tenant.free_vcpus}
    iothreads = {i: float_on for i in live.iothread_ids if i not in tenant.iothreads_pinned}
    emulator = None if tenant.emulator_pinned else float_on
    old = record or PinRecord(uuid=live.uuid)
    wanted = PinRecord(
        uuid=live.uuid,
        vcpus={i: _recorded(live.vcpu_pins.get(i), old.vcpus.get(i), cpus) for i, cpus in vcpus.items()},
        iothreads={
            i: _recorded(live.iothread_pins.get(i), old.iothreads.get(i), cpus)
            for i, cpus in iothreads.items()
        },
        emulator=_recorded(live.emulator_pins, old.emulator, emulator) if emulator is not None else "",
        idle=format_cpu_list(placement.idle),
    )
    new = wanted if wanted != record else None
    steps: list[Pin] = []

    def pin(
        thread: Literal["vcpu", "iothread", "emulator"], index: int, now: CpuSet | None, cpus: CpuSet
    ) -> None:
        if now == cpus:
            return
        name = f"{live.name}/{thread}" + ("" if thread == "emulator" else str(index))
        steps.append(
            Pin(
                object=name,
                before=None if now is None else format_cpu_list(now),
                after=format_cpu_list(cpus),
                why=why if thread == "vcpu" else "emulator and iothreads stay on the host's CPUs",
                uuid=live.uuid,
                thread=thread,
                index=index,
                cpus=cpus,
                record=new,
            )
        )

    for index, cpus in vcpus.items():
        pin("vcpu", index, live.vcpu_pins.get(index), cpus)
    if emulator is not None:
        pin("emulator", 0, live.emulator_pins, emulator)
    for index, cpus in iothreads.items():
        pin("iothread", index, live.iothread_pins.get(index), cpus)
    return steps
