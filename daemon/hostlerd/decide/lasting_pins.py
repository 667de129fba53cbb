"""Where a domain that is off is to begin, written into its definition (`write_config`): vCPUs, emulator, memory.

VFIO pins all of a guest's memory before any event reaches us, and a hook cannot change the XML; so only the definition
can put memory beside the vCPUs. It is planned as if the domain started now beside what runs.

What triggers an edit: that this plan differs from what is written. It changes when a domain is defined, starts or
stops, when policy changes, and when CPUs come or go. While anything is still being moved nothing is planned, so no hook
waits for it; and the edit is made once the wish has been there for a while (reconcile/lasting_edits), so a burst is one
edit. A domain that starts or runs is left alone until it stops.

Never written: what the definition says itself (pins, a `<numatune>`, `placement='auto'`), anything for a domain that
floats, numatune where the host has one node. `strict` memory is reclaimed for and never elsewhere, but a guest for
which the node has no room dies of it; so it is written only where the node's memory, less that of the others there,
holds the guest; else `preferred`, which libvirt takes for one node alone before 9.3 (qemuValidateDomainDefNuma), and
falls back to others silently. Of hugepages we know no pool by node: `preferred`, too, which takes those of another
node where there are none left.

Pure, but for the memory of the last answer: a plan costs some 10 ms, and this is asked in every pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hostlerd.decide.allotment import dedicated_cpus
from hostlerd.decide.guest_memory import near_memory, several
from hostlerd.decide.living import living
from hostlerd.decide.pinning import floats_on, tenants
from hostlerd.decide.programs import decide_programs
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list
from hostlerd.model.domains import Definition, Running
from hostlerd.model.edits import NO_PINS, PINS, PinsChange, in_force, users_own, written_pins
from hostlerd.model.ledger import Claim
from hostlerd.model.observed import Observed
from hostlerd.model.plan import EditDefinition, Placement
from hostlerd.model.settings import Settings

RESERVE = 16
"""One part of so many of a node's memory stays the host's own."""

_last: dict[str, tuple[tuple[Any, ...], PinsChange | str]] = {}
MOST = 256
"""Answers that are remembered."""


def decide_lasting_pins(
    observed: Observed, settings: Settings, *, changing: bool = False
) -> list[EditDefinition]:
    """`changing`: devices, slices or pins are still to be moved, or somebody waits for a preparation."""
    if changing or not observed.snapshot.known or not observed.topology.cpus:
        return []
    steps: list[EditDefinition] = []
    for domain in observed.snapshot.inactive:
        if domain.uuid in observed.ledger.claims or domain.name in observed.ledger.troubles:
            continue  # it is starting; or its definition could not be changed
        edit = in_force(observed.edits, domain.uuid, PINS)
        wanted: PinsChange | str = "write_config is false for it"
        if settings.domain(domain.name, domain.uuid, domain.wishes).write_config:
            wanted = planned_pins(observed, settings, domain)
        elif edit is None or edit.by != "policy":
            continue
        if isinstance(wanted, str) and edit is None:
            continue
        if edit is not None and edit.pins == wanted:
            continue
        steps.append(
            EditDefinition(
                object=domain.name,
                before=NO_PINS if edit is None else str(edit.pins),
                after=NO_PINS if isinstance(wanted, str) else str(wanted),
                why=wanted if isinstance(wanted, str) else "where it would begin if it started now",
                uuid=domain.uuid,
                change=None if isinstance(wanted, str) else wanted,
                about=PINS,
                by="policy",
            )
        )
    return steps


def planned_pins(observed: Observed, settings: Settings, definition: Definition) -> PinsChange | str:
    """What to write for a domain, or why nothing is."""
    asked = (
        users_own(definition, observed.edits),
        observed.topology,
        settings,
        observed.snapshot.running,
        observed.snapshot.inactive,
        observed.ledger.pins,
        observed.ledger.claims,
        observed.edits,
        observed.guest_memory,
        tuple(living(observed)),
        tuple((f.address, f.numa_node, f.is_display) for f in observed.functions.values()),
    )
    before = _last.get(definition.uuid)
    if before is not None and before[0] == asked:
        return before[1]
    found = _planned(observed, settings, asked[0])
    if len(_last) >= MOST:
        _last.clear()
    _last[definition.uuid] = (asked, found)
    return found


def _planned(observed: Observed, settings: Settings, definition: Definition) -> PinsChange | str:
    """`definition`: with what is its owner's alone."""
    name, topology = definition.name, observed.topology
    if definition.auto_placement:
        return f"the definition of {name} leaves its placement to numad (placement='auto')"
    claims = {**observed.ledger.claims, definition.uuid: Claim(definition=definition)}
    # What hostler wrote is taken off the definition here, and would be taken for where it runs; where it runs (somebody
    # asks what would be written) says nothing about the next start.
    edits = {uuid: edits for uuid, edits in observed.edits.items() if uuid != definition.uuid}
    others = tuple(running for running in observed.snapshot.running if running.uuid != definition.uuid)
    asked = replace(
        observed,
        ledger=replace(observed.ledger, claims=claims),
        snapshot=replace(observed.snapshot, running=others),
        edits=edits,
    )
    everybody = tenants(asked, settings)
    programs = decide_programs(asked, settings, everybody)
    placement = programs.domains.get(definition.uuid)
    if placement is None:
        return f'{name} has cpus = "off"'
    if placement.vcpus is None:
        return f"{name} floats on the host's CPUs: it is shared, or there is no room for it now"
    dedicated, _ = dedicated_cpus(asked, settings, everybody, programs)
    housekeeping = topology.online - dedicated
    explicit = definition.cpuset is not None
    mode, memory, cells = _memory(observed, definition, placement)
    change = PinsChange(
        vcpus=tuple(
            (vcpu, format_cpu_list(cpus))
            for vcpu, cpus in zip(definition.present, placement.vcpus, strict=True)
            if not explicit and vcpu not in definition.vcpu_pins
        ),
        emulator=""
        if explicit or definition.emulator_pins is not None
        else format_cpu_list(placement.emulator or floats_on(topology, housekeeping)),
        mode=mode,
        memory=memory,
        cells=cells,
    )
    return change or f"all that there is to be written for {name} is in its definition"


def _memory(
    observed: Observed, definition: Definition, placement: Placement
) -> tuple[str, str, tuple[tuple[int, str], ...]]:
    """Mode, nodes of all of its memory, nodes of each cell's."""
    topology, vcpus = observed.topology, dict(zip(definition.present, placement.vcpus or (), strict=True))
    nothing = ("strict", "", ())
    if not several(topology) or definition.numatune is not None:
        return nothing
    places: dict[int, CpuSet] = {
        number: near_memory(topology, (cpu for vcpu in cell.cpus for cpu in vcpus.get(vcpu, ())))
        for number, cell in enumerate(definition.cells)
        if cell.cpus
    }
    whole = not places
    if whole:
        places = {0: near_memory(topology, frozenset[int]().union(*vcpus.values()))}
    places = {number: nodes for number, nodes in places.items() if nodes}
    sizes = {n: definition.memory_kib if whole else definition.cells[n].memory_kib for n in places}
    mode = "strict" if not definition.hugepages and _fit(observed, definition, places, sizes) else "preferred"
    if mode == "preferred" and any(len(nodes) > 1 for nodes in places.values()):
        return nothing
    lists = {number: format_cpu_list(nodes) for number, nodes in places.items()}
    if whole:
        return mode, lists.get(0, ""), ()
    return mode, "", tuple(sorted(lists.items()))


def _fit(
    observed: Observed, definition: Definition, places: dict[int, CpuSet], sizes: dict[int, int]
) -> bool:
    """Whether the memory of others leaves room for all of it on these nodes: also that of others that are off and were
    bound here by us, as all may be started at once. Of two the one with the lower UUID was here first, else each would
    give way to the other for ever.
    """
    free = {n.id: float(n.memory_kib - n.memory_kib // RESERVE) for n in observed.topology.nodes}
    for running in observed.snapshot.running:
        if running.uuid != definition.uuid:
            for node, kib in _shares(observed, running).items():
                free[node] = free.get(node, 0.0) - kib
    for other in observed.snapshot.inactive:
        if other.uuid < definition.uuid:
            for node, kib in _bound_shares(other, written_pins(observed.edits, other.uuid)).items():
                free[node] = free.get(node, 0.0) - kib
    for number, nodes in places.items():
        for node in nodes:
            free[node] -= sizes[number] / len(nodes)
    return all(free[node] >= 0 for nodes in places.values() for node in nodes)


def _bound_shares(definition: Definition, written: PinsChange) -> dict[int, float]:
    """KiB by node that a domain which is off will have there in any case."""
    if written.mode != "strict":
        return {}
    parts = [(definition.memory_kib, written.memory)] if written.memory else []
    parts += [
        (definition.cells[n].memory_kib, nodes) for n, nodes in written.cells if n < len(definition.cells)
    ]
    found: dict[int, float] = {}
    for kib, nodes in parts:
        members = parse_cpu_list(nodes)
        for node in members:
            found[node] = found.get(node, 0.0) + kib / len(members)
    return found


def _shares(observed: Observed, running: Running) -> dict[int, float]:
    """KiB by node that a domain has, or will have: a guest fills its memory in time."""
    live = running.live
    placed = observed.guest_memory.get(running.uuid)
    if placed is not None and placed.says_something(live.memory_kib):
        scale = max(1.0, live.memory_kib / placed.total)
        return {node: kib * scale for node, kib in placed.kib}
    bound = live.numatune.nodes if live.numatune is not None else frozenset[int]()
    nodes = bound or near_memory(observed.topology, frozenset[int]().union(*live.vcpu_pins.values()))
    nodes = nodes or frozenset(node.id for node in observed.topology.nodes if node.memory_kib)
    return {node: live.memory_kib / len(nodes) for node in nodes}
