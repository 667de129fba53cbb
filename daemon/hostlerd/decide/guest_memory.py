"""Where domains' memory is, as far as it matters for where their vCPUs belong, and what to say when they are apart.

Pure. On a host with one node that has memory nothing of this matters, and nothing is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hostlerd.model.caution import Caution
from hostlerd.model.cpus import Topology
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.domains import Definition, Running
from hostlerd.model.guest_memory import Placed
from hostlerd.model.observed import Observed
from hostlerd.model.questions import Question
from hostlerd.model.settings import Settings

FAR = 0.25
"""More than this share of a domain's memory, or of its vCPUs, apart from the rest is worth a word."""
GIB = 1 << 20


def several(topology: Topology) -> bool:
    """Whether there is more than one place where memory can be."""
    return len([node for node in topology.nodes if node.memory_kib]) > 1


def near_memory(topology: Topology, cpus: Iterable[int]) -> CpuSet:
    """The nodes of these CPUs; of one without memory, the nearest that have some."""
    with_memory = [node.id for node in topology.nodes if node.memory_kib]
    found: set[int] = set()
    for node in {topology.by_id[cpu].node for cpu in cpus if cpu in topology.by_id}:
        if node in with_memory or not with_memory:
            found.add(node)
            continue
        least = min(topology.distance(node, other) for other in with_memory)
        found |= {other for other in with_memory if topology.distance(node, other) == least}
    return frozenset(found)


def ask_for_memory(observed: Observed) -> list[Question]:
    """Once in a domain's life; what is known then is kept up by who answers (reconcile/guest_memory)."""
    if not several(observed.topology):
        return []
    return [
        Question(kind="memory", object=running.uuid)
        for running in observed.snapshot.running
        if running.uuid not in observed.guest_memory
    ]


def memory_nodes(observed: Observed, definition: Definition, cells: Sequence[int]) -> tuple[CpuSet, ...]:
    """Nodes that hold the memory of each of these guest cells (of the guest, where there are none); () if not known.

    What a cell is bound to is known from the XML it runs with; what is bound to nothing is where it was found.
    """
    if not several(observed.topology):
        return ()
    there = frozenset(node.id for node in observed.topology.nodes if node.memory_kib)
    placed = observed.guest_memory.get(definition.uuid, Placed())
    found = placed.nodes & there if placed.says_something(definition.memory_kib) else frozenset[int]()
    tuning = definition.numatune
    nodes = [
        ((tuning.bound(cell) if tuning is not None else frozenset[int]()) & there) or found
        for cell in cells or (None,)
    ]
    return tuple(nodes) if all(nodes) else ()


def far_from_memory(observed: Observed, settings: Settings) -> list[Caution]:
    if not several(observed.topology):
        return []
    found: list[Caution] = []
    for running in observed.snapshot.running:
        placed = observed.guest_memory.get(running.uuid, Placed())
        if placed.says_something(running.live.memory_kib):
            reason = _how_far(observed.topology, running, placed)
            if reason:
                remedy = _remedy(observed, settings, running)
                found.append(Caution(object=running.name, reason=reason, remedy=remedy))
    return found


def _vcpu_nodes(topology: Topology, running: Running) -> list[CpuSet]:
    live = running.live
    anywhere = live.cpuset or topology.online
    return [near_memory(topology, live.vcpu_pins.get(i, anywhere)) for i in live.present]


def _how_far(topology: Topology, running: Running, placed: Placed) -> str:
    """Empty where it is near enough. A guest that is larger than a node has to be on several, and is not told so."""
    vcpus = _vcpu_nodes(topology, running)
    reached: CpuSet = frozenset().union(*vcpus)
    apart = placed.total - placed.on(reached)
    away = [nodes for nodes in vcpus if not nodes & placed.nodes]
    if apart > FAR * placed.total:
        where = format_cpu_list(node for node, _ in placed.kib if node not in reached)
        return (
            f"{100 * apart // placed.total} % of {running.name}'s memory ({apart / GIB:.1f} GiB) is on node {where}, "
            f"and its vCPUs are on node {format_cpu_list(reached)}"
        )
    if len(away) > FAR * len(vcpus):
        where = format_cpu_list(frozenset[int]().union(*away))
        return (
            f"{len(away)} of {running.name}'s {len(vcpus)} vCPUs are on node {where}, and its memory is on node "
            f"{format_cpu_list(placed.nodes)}"
        )
    return ""


def _remedy(observed: Observed, settings: Settings, running: Running) -> str:
    name, policy = running.name, settings.domain(running.name, running.uuid, running.live.wishes)
    if policy.write_config:
        again = f"stop {name} and start it again: then its definition puts its memory where its vCPUs are"
    else:
        again = f"set write_config = true for {name}, or write its <numatune> yourself, then stop it and start it again"
    if running.live.pci_addresses or running.live.mdev_uuids:
        return f"{again} (memory that VFIO has pinned does not move)"
    nodes = format_cpu_list(frozenset[int]().union(*_vcpu_nodes(observed.topology, running)))
    return f"`virsh numatune {name} --nodeset {nodes} --live` moves it; or {again}"
