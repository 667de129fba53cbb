"""What the planner is asked for: a tenant's free vCPUs and its wishes as a Need."""

from __future__ import annotations

from hostlerd.decide.guest_memory import memory_nodes as known_memory
from hostlerd.decide.pinning.tenant import Tenant
from hostlerd.decide.placement import Assignment, Need
from hostlerd.model.observed import Observed

Cells = tuple[tuple[int, ...], ...]


def need_of(tenant: Tenant, observed: Observed, current: Assignment | None) -> Need:
    definition, policy, free = tenant.definition, tenant.policy, tenant.free_vcpus
    threads = definition.topology.threads if definition.topology else 1
    whole = not definition.vcpu_ids and len(free) == definition.vcpus
    if threads > 2 or not whole or definition.vcpus % threads:
        threads = 1
    cells = _cells(tenant)
    return Need(
        name=definition.uuid,
        vcpus=len(free),
        threads=threads,
        cells=cells,
        emulator=0 if tenant.emulator_pinned and not tenant.free_iothreads else _emulators(tenant),
        gpu_node=_gpu_node(tenant, observed),
        core_class=None if policy.core_class == "none" else policy.core_class,
        prefer=policy.prefer,
        smt=policy.smt,
        priority=policy.priority,
        memory=memory_nodes(tenant, observed, cells, current),
        movable=policy.rebalance,
    )


def _emulators(tenant: Tenant) -> int:
    """In a partition every thread needs a CPU inside, and a vCPU's is not for others."""
    least = 0 if tenant.policy.isolates.partition == "none" else 1
    return max(tenant.policy.emulator, least)


def memory_nodes(
    tenant: Tenant, observed: Observed, cells: Cells, current: Assignment | None
) -> tuple[frozenset[int], ...]:
    """The host nodes that hold each guest cell's memory; () while it has none.

    Where it is bound to or was found; while that is not known, near the CPUs that the domain was started on, where it
    was allocated. What VFIO pins stays there.
    """
    known = known_memory(observed, tenant.definition, _cell_numbers(tenant) if cells else ())
    if current is None or known:
        return known
    by_id = observed.topology.by_id
    nodes = [by_id[cpu].node if cpu in by_id else None for cpu in current.vcpus]
    every = frozenset(node for node in nodes if node is not None)
    found = (
        frozenset(n for i in cell if i < len(nodes) and (n := nodes[i]) is not None)
        for cell in (cells or (tuple(range(len(tenant.free_vcpus))),))
    )
    return tuple(cell or every for cell in found)


def _cells(tenant: Tenant) -> Cells:
    """Its NUMA cells by index into its free vCPUs; () where it is one, or where they do not hold every vCPU."""
    index = {vcpu: i for i, vcpu in enumerate(tenant.free_vcpus)}
    found = (tuple(index[v] for v in sorted(cell.cpus) if v in index) for cell in tenant.definition.cells)
    cells = tuple(cell for cell in found if cell)
    return cells if len(cells) > 1 and sum(map(len, cells)) == len(index) else ()


def _cell_numbers(tenant: Tenant) -> tuple[int, ...]:
    """Which cells of the definition those are."""
    free = frozenset(tenant.free_vcpus)
    return tuple(number for number, cell in enumerate(tenant.definition.cells) if cell.cpus & free)


def _gpu_node(tenant: Tenant, observed: Observed) -> int | None:
    """The node that most of its devices are on; a display counts twice."""
    nodes = [
        function.numa_node
        for address in tenant.definition.pci_addresses
        if (function := observed.functions.get(address)) is not None and function.numa_node is not None
        for _ in range(2 if function.is_display else 1)
    ]
    return max(nodes, key=lambda node: (nodes.count(node), -node)) if nodes else None
