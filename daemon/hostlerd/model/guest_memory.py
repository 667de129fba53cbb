"""Where a domain's memory is on the host's NUMA nodes: asked for in its definition, and as found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hostlerd.model.cpuset import CpuSet

FAIR = 0.1
"""A node with less than this share of a domain's memory says nothing about where its vCPUs belong."""
ENOUGH = 0.1
"""Of its memory a guest must have touched this share before where that is says anything."""
PINNED = 0.9
"""Of the memory of a domain with a VFIO device this share is there as soon as all of it is pinned."""

NO_NODES: Mapping[int, CpuSet] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Numatune:
    """`<numatune>`. `nodes`: of `<memory>`, empty where it has none or numad chooses; `cells`: `<memnode>` by cell.

    `mode`: of `<memory>`, `modes`: of each cell (strict where it says nothing).
    """

    mode: str = "strict"
    nodes: CpuSet = frozenset()
    cells: Mapping[int, CpuSet] = field(default_factory=lambda: NO_NODES)
    modes: Mapping[int, str] = field(default_factory=dict[int, str])

    def bound(self, cell: int | None = None) -> CpuSet:
        """Nodes on which the memory (of this cell) must be; empty where it may be elsewhere, too."""
        if cell is not None and cell in self.cells:
            return self.cells[cell] if self.modes.get(cell, "strict") == "strict" else frozenset()
        return self.nodes if self.mode == "strict" else frozenset()


@dataclass(frozen=True, slots=True)
class Placed:
    """KiB by node, as found; nodes with none are left out."""

    kib: tuple[tuple[int, int], ...] = ()

    @property
    def total(self) -> int:
        return sum(kib for _, kib in self.kib)

    def on(self, nodes: Iterable[int]) -> int:
        """KiB on these nodes."""
        nodes = frozenset(nodes)
        return sum(kib for node, kib in self.kib if node in nodes)

    @property
    def nodes(self) -> CpuSet:
        """Those that hold a fair share."""
        return frozenset(node for node, kib in self.kib if kib >= FAIR * self.total)

    def says_something(self, memory_kib: int) -> bool:
        return bool(self.total) and self.total >= ENOUGH * memory_kib

    def is_all(self, memory_kib: int) -> bool:
        return bool(self.total) and self.total >= PINNED * memory_kib
