"""The host as the planner sees it: which CPUs can be given away, and where they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from hostlerd.model.cpus import Cpu, Topology
from hostlerd.model.cpuset import CpuSet

LOCAL = 10  # the distance of a node to itself (ACPI SLIT)


@dataclass(frozen=True, kw_only=True)
class Host:
    """CPUs that can be given away, and where they are.

    `must`: CPUs that stay the host's. `min_cpus`: how many stay in any case. `taken`: pinned by users, nobody else is
    placed there. `gpu_nodes`: NUMA nodes with a GPU.
    """

    topology: Topology
    must: CpuSet = frozenset()
    min_cpus: int = 1
    taken: CpuSet = frozenset()
    gpu_nodes: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls,
        topology: Topology,
        *,
        must: CpuSet = frozenset(),
        min_cpus: int = 1,
        taken: CpuSet = frozenset(),
        gpu_nodes: frozenset[int] = frozenset(),
    ) -> Host:
        return cls(topology=topology, must=must, min_cpus=min_cpus, taken=taken, gpu_nodes=gpu_nodes)

    @cached_property
    def cpus(self) -> dict[int, Cpu]:
        return self.topology.by_id

    @cached_property
    def cores(self) -> dict[int, tuple[int, ...]]:
        return self.topology.cores

    @cached_property
    def usable(self) -> CpuSet:
        return self.topology.online - self.must - self.taken

    @cached_property
    def most_owned(self) -> int:
        """CPUs that may be given away at once."""
        return max(0, len(self.topology.online - self.taken) - self.min_cpus)

    @cached_property
    def reserve(self) -> CpuSet:
        """CPUs of which `min_cpus` have to stay.

        Booted with isolcpus, the kernel balances no load on these CPUs (Documentation/admin-guide/kernel-parameters):
        the host's work would not spread there, so they count only where there are too few others.
        """
        ordinary = self.topology.online - self.taken - self.topology.isolated
        return ordinary if len(ordinary) >= self.min_cpus else self.topology.online - self.taken

    def spare(self, blocked: CpuSet) -> int:
        """How many CPUs of the reserve may be given away besides those in `blocked`."""
        return max(0, len(self.reserve) - self.min_cpus) - len(self.reserve & blocked)

    @cached_property
    def quiet(self) -> CpuSet:
        """CPUs that the kernel was booted to keep its own work off."""
        return self.topology.isolated | self.topology.nohz_full

    @cached_property
    def boot_core(self) -> int | None:
        """The core of the first CPU, where the kernel's own work gathers."""
        return self.topology.cpus[0].core if self.topology.cpus else None

    @cached_property
    def l3_of(self) -> dict[int, int]:
        """CPU to L3 domain. A CPU without one counts as sharing with those of its node that have none either."""
        return {cpu.id: -1 - cpu.node if cpu.l3 is None else cpu.l3 for cpu in self.topology.cpus}

    @cached_property
    def small_l3(self) -> frozenset[int]:
        """L3 domains smaller than the host's largest, in which V-cache is wanted in vain."""
        kib = {l3.id: l3.kib or 0 for l3 in self.topology.l3}
        size = {l3: kib.get(l3, 0) for l3 in self.l3_of.values()}
        return frozenset(l3 for l3 in size if size[l3] < max(size.values()))

    @cached_property
    def slow(self) -> CpuSet:
        """CPUs below the host's highest clock."""
        mhz = {cpu.id: cpu.max_mhz or 0.0 for cpu in self.topology.cpus}
        return frozenset(cpu for cpu in mhz if mhz[cpu] < max(mhz.values()))

    @cached_property
    def l3_sets(self) -> dict[int, CpuSet]:
        return _group({cpu: self.l3_of[cpu] for cpu in self.cpus})

    @cached_property
    def node_sets(self) -> dict[int, CpuSet]:
        return _group({cpu.id: cpu.node for cpu in self.topology.cpus})

    @cached_property
    def socket_sets(self) -> dict[int, CpuSet]:
        return _group({cpu.id: cpu.socket for cpu in self.topology.cpus})

    @cached_property
    def memory_nodes(self) -> tuple[int, ...]:
        """Nodes with memory; all where the host does not say."""
        nodes = tuple(node.id for node in self.topology.nodes if node.memory_kib)
        return nodes or tuple(sorted(self.node_sets))

    @cached_property
    def gpus_apart(self) -> bool:
        """Some nodes have a GPU and some have none, so domains without one can keep away."""
        nodes = {node.id for node in self.topology.nodes} | set(self.node_sets)
        return 0 < len(self.gpu_nodes & nodes) < len(nodes)

    @cached_property
    def _distances(self) -> dict[tuple[int, int], int]:
        known = [node.id for node in self.topology.nodes]
        return {(a, b): self.topology.distance(a, b) for a in known for b in known}

    def distance(self, a: int, b: int) -> int:
        return self._distances.get((a, b), LOCAL)

    def near_memory(self, held: Iterable[int]) -> frozenset[int]:
        """Nodes from which memory on the nodes `held` is as near as it gets.

        These are the nodes themselves and nodes without memory whose nearest memory is there.
        """
        held = frozenset(held)
        near = set(held)
        for node in self.node_sets:
            if node not in self.memory_nodes:
                best = min(self.distance(node, other) for other in self.memory_nodes)
                if any(self.distance(node, other) == best for other in held):
                    near.add(node)
        return frozenset(near)

    def fewest(self, sets: Mapping[int, CpuSet], vcpus: int, *, whole_cores: bool) -> int:
        """How many of `sets` hold so many vCPUs on an empty host, at least one."""
        sizes = sorted(
            (len({self.cpus[c].core for c in s}) if whole_cores else len(s) for s in sets.values()),
            reverse=True,
        )
        count = 0
        for size in sizes:
            if vcpus <= 0:
                break
            vcpus -= size
            count += 1
        return max(count, 1)


def _group(of: Mapping[int, int]) -> dict[int, CpuSet]:
    groups: dict[int, set[int]] = {}
    for cpu, group in of.items():
        groups.setdefault(group, set()).add(cpu)
    return {group: frozenset(groups[group]) for group in sorted(groups)}
