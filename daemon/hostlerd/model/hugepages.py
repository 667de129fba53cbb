"""Huge pages: what a domain's memory is to be made of, and the kernel's pools of them, one a node and size.

A pool's pages are everybody's. Those above what nr_hugepages was set to are *surplus*: they go away when their user
lets go of them (mm/hugetlb.c, free_huge_page). The others, *lasting* here, are what a write of nr_hugepages changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hostlerd.model.cpuset import CpuSet

NR = "nr_hugepages"
COMPACT = "/proc/sys/vm/compact_memory"
DROP_CACHES = "/proc/sys/vm/drop_caches"
DEFAULT = 2048
"""KiB of a huge page where /proc/meminfo does not say."""
SMALL = 64
"""KiB: pages up to this may be the processor's own, which are not huge, however they are asked for."""
_MIB, _GIB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSize:
    """`<page>`, or `<hugepages/>` without any. `kib`: 0 for the host's default. `cells`: None for all that no other
    names.
    """

    kib: int = 0
    cells: CpuSet | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimm:
    """A memory device that is there from the start. `page_kib`: 0 where it follows its cell."""

    kib: int
    cell: int | None = None
    page_kib: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """A part of a guest's memory that is of huge pages. `cell`: of the guest, None where it has none."""

    cell: int | None
    kib: int
    page_kib: int

    @property
    def pages(self) -> int:
        """QEMU rounds up to whole ones (file_ram_alloc)."""
        return -(-self.kib // self.page_kib)


class Memory(Protocol):
    """What counts of a definition here."""

    @property
    def cells(self) -> tuple[_Cell, ...]: ...

    @property
    def memory_kib(self) -> int: ...

    @property
    def page_sizes(self) -> tuple[PageSize, ...]: ...

    @property
    def dimms(self) -> tuple[Dimm, ...]: ...


class _Cell(Protocol):
    @property
    def memory_kib(self) -> int: ...


def backings(domain: Memory, default_kib: int) -> Iterator[Backing]:
    """Which page size each part of the memory has (libvirt, qemuBuildMemoryGetPagesize): its own, that of its cell,
    that of all; a cell that nothing names has small pages.
    """
    if domain.cells:
        parts: list[tuple[int | None, int, int]] = [
            (cell, one.memory_kib, 0) for cell, one in enumerate(domain.cells)
        ]
    else:
        parts = [(None, domain.memory_kib - sum(dimm.kib for dimm in domain.dimms), 0)]
    parts += [(dimm.cell, dimm.kib, dimm.page_kib) for dimm in domain.dimms]
    for cell, kib, own in parts:
        size = own or _size(domain.page_sizes, cell, default_kib)
        if size > SMALL and kib > 0:
            yield Backing(cell=cell, kib=kib, page_kib=size)


def _size(sizes: Iterable[PageSize], cell: int | None, default_kib: int) -> int:
    found = 0
    for size in sizes:
        if size.cells is None:
            found = found or size.kib or default_kib
        elif cell in size.cells:
            return size.kib or default_kib
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """`path`: its nr_hugepages, which counts surplus pages, too."""

    path: str
    node: int
    page_kib: int
    total: int
    free: int
    surplus: int = 0

    @property
    def lasting(self) -> int:
        return max(0, self.total - self.surplus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hugepages:
    """`reserved`: by page size, free pages that somebody's mapping has a right to, on whatever node (resv_hugepages).

    `taken`: by UUID, KiB of huge pages that a domain's QEMU has; absent where that cannot be found out.
    """

    pools: tuple[Pool, ...] = ()
    default_kib: int = DEFAULT
    reserved: Mapping[int, int] = field(default_factory=dict[int, int])
    taken: Mapping[str, int] = field(default_factory=dict[str, int])

    def of(self, page_kib: int) -> dict[int, Pool]:
        """By node."""
        return {pool.node: pool for pool in self.pools if pool.page_kib == page_kib}

    def at(self, path: str) -> Pool | None:
        return next((pool for pool in self.pools if pool.path == path), None)

    @property
    def sizes(self) -> list[int]:
        return sorted({pool.page_kib for pool in self.pools})


def size_text(kib: int) -> str:
    """`2 MiB`, `1.5 GiB`."""
    unit, name = (_GIB, "GiB") if kib >= _GIB else (_MIB, "MiB") if kib >= _MIB else (1, "KiB")
    return f"{kib / unit:.1f}".removesuffix(".0") + f" {name}"


def pages_text(count: int, page_kib: int) -> str:
    """`512 pages of 2 MiB (1 GiB)`."""
    whole = f" ({size_text(count * page_kib)})" if count > 1 else ""
    return f"{count} page{'s' if count != 1 else ''} of {size_text(page_kib)}{whole}"
