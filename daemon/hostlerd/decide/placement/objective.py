"""The objective: thirteen terms, lower is better, an earlier term outweighs all later ones.

Two forms. `terms` judges CPUs exactly and is the last word. The search adds and compares costs by the million, so there
a vector is one integer with a field of `BITS` for each term: adding integers adds vectors, comparing them compares term
by term. No field is ever negative or full.

  undedicated  10 for each vCPU of a domain that floats, 1 for each emulator CPU wanted but not given; x 10^priority
  displaced    vCPUs on a node that holds none of their memory: memory pinned for VFIO cannot follow a vCPU
  smt          guest cores not on one host core + second and further owners of a host core
  class        vCPUs on the wrong type of core + vCPUs off the domain's majority type
  node_span    NUMA nodes and sockets spanned beyond what an empty host would need, by guest cell
  locality     distance of vCPUs to the domain's GPU and to memory, beyond local
  l3_span      L3 domains spanned beyond what an empty host would need, by guest cell
  cache_pref   vCPUs off the V-cache or high-clock domain asked for
  migrations   running vCPUs moved: 1 within an L3 domain, 2 within a node, 4 beyond; nothing below is worth a move
  cpu0         1 where the first CPU's core is not wholly the host's
  gpu_room     vCPUs of domains without a GPU on nodes that have one, where some node has none
  l3_shared    second and further domains of an L3 domain
  free_l3      minus the L3 domains left wholly free

Last, where all of these are equal, vCPUs go to CPUs that the kernel was booted to keep its own work off (isolcpus,
nohz_full): `LOUD` in the packed form, no term of the vector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hostlerd.decide.placement.need import Assignment, Need
from hostlerd.decide.placement.topology import LOCAL, Host
from hostlerd.model.cpus import CoreClass

BITS = 32
MASK = (1 << BITS) - 1


class Terms(NamedTuple):
    undedicated: int = 0
    displaced: int = 0
    smt: int = 0
    core_class: int = 0
    node_span: int = 0
    locality: int = 0
    l3_span: int = 0
    cache_pref: int = 0
    migrations: int = 0
    cpu0: int = 0
    gpu_room: int = 0
    l3_shared: int = 0
    free_l3: int = 0


(
    LOUD,
    FREE_L3,
    L3_SHARED,
    GPU_ROOM,
    CPU0,
    MIGRATION,
    CACHE,
    L3_SPAN,
    LOCALITY,
    NODE_SPAN,
    CLASS,
    SMT,
    DISPLACED,
    UNDEDICATED,
) = (1 << BITS * i for i in range(14))
CORE_SHIFT = BITS * 6
CROWDING_SHIFT = BITS * 11
ILLEGAL = UNDEDICATED << 3 * BITS  # a running domain set afloat for nothing


def core_part(cost: int) -> int:
    """The terms that justify a move, as one integer."""
    return cost >> CORE_SHIFT


def crowding_part(cost: int) -> int:
    """The terms for which cores may be shared with others: undedicated, displaced, smt."""
    return cost >> CROWDING_SHIFT


def migrations_of(cost: int) -> int:
    return cost // MIGRATION & MASK


Memory = frozenset[int]


def distance_cost(host: Host, need: Need, node: int, memory: Memory) -> int:
    """What one CPU on `node` costs in locality: to memory, placed or to be placed, and to the GPU."""
    cost = min(host.distance(node, other) for other in memory or host.memory_nodes) - LOCAL
    return cost if need.gpu_node is None else cost + host.distance(node, need.gpu_node) - LOCAL


def wrong_class(need: Need, core_class: CoreClass) -> bool:
    if need.core_class == "performance":
        return core_class in (CoreClass.EFFICIENCY, CoreClass.LOW_POWER)
    return need.core_class == "efficiency" and core_class is CoreClass.PERFORMANCE


def spurned(need: Need, *, small_cache: bool, slow: bool) -> bool:
    """Whether a CPU is off the cache or clock domain that was asked for."""
    return (need.prefer == "vcache" and small_cache) or (need.prefer == "frequency" and slow)


def weight(need: Need) -> int:
    return int(10 ** max(0, need.priority))


def floating(need: Need) -> int:
    return 10 * need.vcpus * weight(need)


def move_weight(host: Host, old: int, new: int) -> int:
    if old == new:
        return 0
    if host.l3_of.get(old) == host.l3_of[new]:
        return 1
    return 2 if old in host.cpus and host.cpus[old].node == host.cpus[new].node else 4


def terms(
    host: Host,
    needs: Iterable[Need],
    assignments: Mapping[str, Assignment | None],
    current: Mapping[str, Assignment | None],
) -> Terms:
    """The exact vector of a placement; `current` is where the domains run now."""
    total = Terms()
    owner: dict[int, str] = {}
    users: dict[int, set[str]] = {}
    touched = {host.l3_of[cpu] for cpu in host.must if cpu in host.l3_of}
    for need in needs:
        given = assignments.get(need.name)
        if given is None:
            total = _add(total, Terms(undedicated=floating(need)))
            continue
        total = _add(total, domain_terms(host, need, given, current.get(need.name)))
        owner.update(dict.fromkeys(given.cpus, need.name))
        for cpu in given.vcpus:
            users.setdefault(host.l3_of[cpu], set()).add(need.name)
        touched.update(host.l3_of[cpu] for cpu in given.cpus)
    shared = 0
    for cpus in host.cores.values():
        owners = {owner.get(cpu, "") for cpu in cpus if cpu not in host.taken}
        shared += max(0, len(owners) - 1)
    return _add(
        total,
        Terms(
            smt=shared,
            cpu0=int(host.boot_core is not None and any(cpu in owner for cpu in host.cores[host.boot_core])),
            l3_shared=sum(len(names) - 1 for names in users.values()),
            free_l3=-len(set(host.l3_sets) - touched),
        ),
    )


def domain_terms(host: Host, need: Need, given: Assignment, before: Assignment | None) -> Terms:
    """The part of the vector that is one domain's own."""
    cells = need.units()
    cpus = [host.cpus[cpu] for cpu in given.vcpus]
    cell_of = {i: number for number, cell in enumerate(cells) for i in cell}
    classes = Counter(cpu.core_class for cpu in cpus)
    displaced = locality = 0
    for i, cpu in enumerate(cpus):
        memory = need.memory_of(cell_of[i])
        locality += distance_cost(host, need, cpu.node, memory)
        displaced += bool(memory) and cpu.node not in host.near_memory(memory)
    for helper in given.emulator:
        locality += distance_cost(host, need, host.cpus[helper].node, need.all_memory())
    node_span = l3_span = 0
    for cell in cells:
        if cell:
            spans = span_minimum(host, need, len(cell))
            node_span += len({cpus[i].node for i in cell}) + len({cpus[i].socket for i in cell}) - spans[0]
            l3_span += len({host.l3_of[given.vcpus[i]] for i in cell}) - spans[1]
    return Terms(
        undedicated=max(0, need.emulator - len(given.emulator)) * weight(need),
        displaced=displaced,
        smt=_smt(host, need, given),
        core_class=sum(wrong_class(need, cpu.core_class) for cpu in cpus) + len(cpus) - max(classes.values()),
        node_span=node_span,
        locality=locality,
        l3_span=l3_span,
        cache_pref=sum(
            spurned(need, small_cache=host.l3_of[cpu] in host.small_l3, slow=cpu in host.slow)
            for cpu in given.vcpus
        ),
        migrations=sum(move_weight(host, a, b) for a, b in zip(before.vcpus, given.vcpus, strict=False))
        if before
        else 0,
        gpu_room=sum(cpu.node in host.gpu_nodes for cpu in cpus)
        if need.gpu_node is None and host.gpus_apart
        else 0,
    )


def span_minimum(host: Host, need: Need, vcpus: int) -> tuple[int, int]:
    """Nodes plus sockets, and L3 domains, that so many vCPUs need on an empty host."""
    whole = need.isolated
    nodes = host.fewest(host.node_sets, vcpus, whole_cores=whole)
    sockets = host.fewest(host.socket_sets, vcpus, whole_cores=whole)
    return nodes + sockets, host.fewest(host.l3_sets, vcpus, whole_cores=whole)


def _smt(host: Host, need: Need, given: Assignment) -> int:
    """Guest cores torn apart, and guest cores (or isolated vCPUs) folded onto one host core."""
    if need.threads == 1 and not need.isolated:
        return 0
    on = [host.cpus[cpu].core for cpu in given.vcpus]
    guests = [set(on[i : i + need.threads]) for i in range(0, len(on), need.threads)]
    folds = Counter(core for cores in guests for core in cores)
    return sum(len(cores) > 1 for cores in guests) + sum(n - 1 for n in folds.values())


def _add(a: Terms, b: Terms) -> Terms:
    return Terms(*(x + y for x, y in zip(a, b, strict=True)))
