"""The host's processors as the kernel describes them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from hostlerd.model.cpuset import CpuSet


class CoreClass(StrEnum):
    PERFORMANCE = "performance"
    EFFICIENCY = "efficiency"
    LOW_POWER = "low-power"
    UNIFORM = "uniform"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """One logical CPU that is on line. `core`, `l3`: lowest CPU of the set it shares (kernel ids are not unique)."""

    id: int
    core: int
    siblings: CpuSet
    socket: int
    node: int
    l3: int | None
    core_class: CoreClass = CoreClass.UNIFORM
    max_mhz: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class L3:
    id: int
    cpus: CpuSet
    kib: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A NUMA node. `distances`: to every node, in the order of `Topology.nodes`; 10 is local."""

    id: int
    cpus: CpuSet
    memory_kib: int
    distances: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Topology:
    """What the host has. `cpus` are the on-line ones by id; `offline` only have ids."""

    cpus: tuple[Cpu, ...]
    offline: CpuSet = frozenset()
    l3: tuple[L3, ...] = ()
    nodes: tuple[Node, ...] = ()
    isolated: CpuSet = frozenset()
    nohz_full: CpuSet = frozenset()

    @cached_property
    def online(self) -> CpuSet:
        return frozenset(cpu.id for cpu in self.cpus)

    @cached_property
    def possible(self) -> CpuSet:
        return self.online | self.offline

    @cached_property
    def by_id(self) -> dict[int, Cpu]:
        return {cpu.id: cpu for cpu in self.cpus}

    @cached_property
    def cores(self) -> dict[int, tuple[int, ...]]:
        """Core to its on-line CPUs, in order."""
        cores: dict[int, list[int]] = {}
        for cpu in self.cpus:
            cores.setdefault(cpu.core, []).append(cpu.id)
        return {core: tuple(sorted(ids)) for core, ids in cores.items()}

    def distance(self, a: int, b: int) -> int:
        """Between two nodes by id; 10 where the host does not say."""
        ids = [node.id for node in self.nodes]
        if a not in ids or b not in ids:
            return 10
        row = self.nodes[ids.index(a)].distances
        return row[ids.index(b)] if len(row) == len(ids) else 10
