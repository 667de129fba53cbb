"""How many huge pages a domain needs, and on which nodes.

Pure. What its <numatune> binds is needed there and nowhere else. What it only prefers is added there, too, and may be
elsewhere where the kernel gives no more. What nothing binds is where QEMU's thread runs that touches it first, or on
the next node that has pages free (dequeue_hugetlb_folio_nodemask): pages that are free anywhere are enough, and what is
missing is added on the nodes of the CPUs that the domain is to get; of one that floats on all nodes alike, as the
kernel itself spreads what is written to vm.nr_hugepages (alloc_pool_huge_page, round robin).
"""

from __future__ import annotations

from dataclasses import dataclass

from hostlerd.decide.guest_memory import near_memory
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.domains import Definition
from hostlerd.model.hugepages import Backing, Hugepages, backings
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Placement

BINDING = ("strict", "restrictive")
"""Modes of <numatune> that give no memory of other nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """`where`: nodes that get what is missing. `enough`: nodes whose free pages count, `else_`: count at the last.

    `known`: whether this kernel has pages of this size at all.
    """

    page_kib: int
    pages: int
    where: tuple[int, ...]
    enough: frozenset[int]
    else_: frozenset[int]
    known: bool = True


def needs(
    observed: Observed, pages: Hugepages, definition: Definition, placement: Placement | None
) -> list[Need]:
    """What is bound comes first, since the rest may be anywhere."""
    found = [
        _need(observed, pages, definition, placement, backing)
        for backing in backings(definition, pages.default_kib)
    ]
    return sorted(found, key=lambda need: len(need.else_))


def _need(
    observed: Observed,
    pages: Hugepages,
    definition: Definition,
    placement: Placement | None,
    backing: Backing,
) -> Need:
    there = frozenset(pages.of(backing.page_kib))
    with_memory = frozenset(node.id for node in observed.topology.nodes if node.memory_kib) & there
    everywhere = with_memory or there
    nodes, mode = _tuned(definition, backing.cell)
    nodes &= there
    if nodes and mode in BINDING:
        where = enough = else_ = nodes
    elif nodes:
        where, enough, else_ = nodes, nodes, there
    else:
        cpus = _cpus(definition, placement, backing.cell)
        where = (near_memory(observed.topology, cpus) & there) or everywhere
        enough = else_ = there
    return Need(
        page_kib=backing.page_kib,
        pages=backing.pages,
        where=tuple(sorted(where)),
        enough=enough,
        else_=else_,
        known=bool(there),
    )


def _tuned(definition: Definition, cell: int | None) -> tuple[CpuSet, str]:
    tuning = definition.numatune
    if tuning is None:
        return frozenset(), "strict"
    if cell is not None and cell in tuning.cells:
        return tuning.cells[cell], tuning.modes.get(cell, "strict")
    return tuning.nodes, tuning.mode


def _cpus(definition: Definition, placement: Placement | None, cell: int | None) -> CpuSet:
    """Those of the cell's vCPUs, or of all; none where they float."""
    if placement is None:
        return frozenset()
    if placement.vcpus is None:
        return placement.explicit
    vcpus = definition.cells[cell].cpus if cell is not None else frozenset[int]()
    own = [cpus for vcpu, cpus in enumerate(placement.vcpus) if vcpu in vcpus]
    return frozenset[int]().union(*(own or placement.vcpus))
