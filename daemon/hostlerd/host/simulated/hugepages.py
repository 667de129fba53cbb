"""The kernel's pools of huge pages, one a node and size: mm/hugetlb.c, set_max_huge_pages and free_huge_page.

Growing takes pages out of surplus first, then makes new ones as long as there is memory in one piece, and says nothing
where there is not. Shrinking frees pages that are free, down to what mappings have a right to, and calls the rest
surplus: those go away when they are let go of. The files are the state; nothing else is kept here.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

from hostlerd.host.simulated.cpus import NODES
from hostlerd.host.simulated.faults import Faults
from hostlerd.host.simulated.pci import fail
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.domains import Definition
from hostlerd.model.hugepages import COMPACT, DROP_CACHES, NR, Backing, backings

GLOBAL = "/sys/kernel/mm/hugepages"
FILE = re.compile(rf"{NODES}/node(\d+)/hugepages/hugepages-(\d+)kB/{NR}")
SIZES = (2048, 1048576)
COUNTS = (NR, "free_hugepages", "surplus_hugepages")
LIFTS = {COMPACT: "fragmented", DROP_CACHES: "cached"}
"""What writing to these files puts right."""
SHORT = ("fragmented", "cached", "crowded")
ROOM = re.compile("|".join(map(re.escape, LIFTS)))


def show(tree: Tree, nodes: int) -> None:
    for size in SIZES:
        for folder in (GLOBAL, *(f"{NODES}/node{node}/hugepages" for node in range(nodes))):
            for name in COUNTS:
                tree.put(f"{folder}/hugepages-{size}kB/{name}", "0\n")
        tree.put(f"{GLOBAL}/hugepages-{size}kB/resv_hugepages", "0\n")
    for path in LIFTS:
        tree.put(path, None)  # mode 0200 (kernel/sysctl.c)


class Hugepages:
    def __init__(self, tree: Tree, faults: Faults) -> None:
        self._tree, self._faults = tree, faults

    def write(self, node: int, size: int, text: str) -> None:
        """nr_hugepages of a node: how many lasting pages there are to be. Raises EINVAL for what is no number."""
        if not re.fullmatch(r"\d+", text.strip()):
            raise fail(errno.EINVAL, f"{NODES}/node{node}/hugepages/hugepages-{size}kB/{NR}")
        wanted = int(text)
        total, free, surplus = self._counts(node, size)
        back = min(surplus, max(0, wanted - (total - surplus)))
        surplus -= back
        if wanted > total - surplus:
            made = self._make(node, size, wanted - (total - surplus))
            total, free = total + made, free + made
        elif wanted < total - surplus:
            freed = min(free, total - surplus - wanted, self._may_go(size))
            total, free = total - freed, free - freed
            self._unmake(node, freed)
            surplus = max(surplus, total - wanted)
        self._put(node, size, total, free, surplus)

    def slow(self, path: str, text: str) -> tuple[float, int, int] | None:
        """Seconds a page, the pages to be made and the lasting ones there are, where that is slow."""
        match = FILE.fullmatch(path)
        seconds = self._faults.get("slow-pages", match[1]) if match else None
        if match is None or seconds is None:
            return None
        total, _, surplus = self._counts(int(match[1]), int(match[2]))
        return float(seconds), max(0, int(text) - (total - surplus)), total - surplus

    def make_room(self, path: str) -> None:
        for name, node in list(self._faults.active):
            if name == LIFTS[path]:
                self._faults.lift(name, node)

    def take(self, definition: Definition, first: int) -> list[list[int]]:
        """[node, KiB of a page, pages] that QEMU touches when it starts; `first`: the node that its thread is on.

        Raises OSError ENOMEM where there are not enough; then none are taken.
        """
        took: list[list[int]] = []
        for backing in backings(definition, SIZES[0]):
            left = backing.pages
            for node in self._nodes(definition, backing, first):
                total, free, surplus = self._counts(node, backing.page_kib)
                pages = min(left, free)
                if pages:
                    left -= pages
                    self._put(node, backing.page_kib, total, free - pages, surplus)
                    took.append([node, backing.page_kib, pages])
            if left:
                self.let_go(took)
                raise fail(errno.ENOMEM, "/dev/hugepages")
        return took

    def let_go(self, took: Iterable[Iterable[int]]) -> None:
        """free_huge_page: a page of a node with surplus goes, another is free again."""
        for node, size, pages in took:
            total, free, surplus = self._counts(node, size)
            gone = min(surplus, pages)
            self._unmake(node, gone)
            self._put(node, size, total - gone, free + pages - gone, surplus - gone)

    def reserve(self, size: int, pages: int) -> None:
        """Somebody's mapping has a right to so many pages, and has touched none of them yet."""
        self._tree.put(f"{GLOBAL}/hugepages-{size}kB/resv_hugepages", f"{pages}\n")

    def shown(self) -> dict[str, dict[str, int]]:
        """`node0 2048kB`, of pools that have any pages."""
        return {
            f"node{node} {size}kB": dict(zip(("total", "free", "surplus"), counts, strict=True))
            for node in self._all_nodes()
            for size in SIZES
            if any(counts := self._counts(node, size))
        }

    def _nodes(self, definition: Definition, backing: Backing, first: int) -> list[int]:
        """In the order in which they are asked: dequeue_hugetlb_folio_nodemask."""
        every = self._all_nodes()
        tuning = definition.numatune
        if tuning is None:
            return sorted(every, key=lambda node: node != first)
        bound = tuning.bound(backing.cell)
        liked = bound or tuning.cells.get(-1 if backing.cell is None else backing.cell) or tuning.nodes
        return [n for n in every if n in bound] if bound else sorted(every, key=lambda n: n not in liked)

    def _make(self, node: int, size: int, pages: int) -> int:
        """alloc_pool_huge_page, until one cannot be had. Half of a node's memory is the host's own."""
        total = int(self._tree.read(f"{NODES}/node{node}/meminfo").split("MemTotal:")[1].split()[0])
        huge = sum(self._counts(node, each)[0] * each for each in SIZES)
        made = min(pages, max(0, total // 2 - huge) // size)
        short = {name: value for name in SHORT if (value := self._faults.get(name, str(node))) is not None}
        made = min(made, *(int(value or "0") for value in short.values())) if short else made
        for name, value in short.items():
            self._faults.active[name, str(node)] = str(int(value or "0") - made)
        return made

    def _unmake(self, node: int, pages: int) -> None:
        """What was in one piece is so again."""
        for name in SHORT:
            value = self._faults.get(name, str(node))
            if value is not None:
                self._faults.active[name, str(node)] = str(int(value or "0") + pages)

    def _all_nodes(self) -> list[int]:
        names = self._tree.listdir(NODES) if self._tree.exists(NODES) else []
        return sorted(int(name[4:]) for name in names if re.fullmatch(r"node\d+", name))

    def _reserved(self, size: int) -> int:
        return int(self._tree.read(f"{GLOBAL}/hugepages-{size}kB/resv_hugepages"))

    def _may_go(self, size: int) -> int:
        """min_hp_count: lasting pages of all nodes stay as many as are in use or reserved."""
        every = [self._counts(node, size) for node in self._all_nodes()]
        total, free, surplus = (sum(counts[n] for counts in every) for n in range(3))
        return max(0, total - surplus - (self._reserved(size) + total - free))

    def _counts(self, node: int, size: int) -> tuple[int, int, int]:
        folder = f"{NODES}/node{node}/hugepages/hugepages-{size}kB"
        if not self._tree.exists(folder):
            return 0, 0, 0
        total, free, surplus = (int(self._tree.read(f"{folder}/{name}")) for name in COUNTS)
        return total, free, surplus

    def _put(self, node: int, size: int, *counts: int) -> None:
        before = self._counts(node, size)
        for name, old, new in zip(COUNTS, before, counts, strict=True):
            self._tree.put(f"{NODES}/node{node}/hugepages/hugepages-{size}kB/{name}", f"{new}\n")
            path = f"{GLOBAL}/hugepages-{size}kB/{name}"
            if self._tree.exists(path):
                self._tree.put(path, f"{int(self._tree.read(path)) + new - old}\n")
