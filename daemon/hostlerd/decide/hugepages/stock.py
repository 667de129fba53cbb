"""What is free in the pools for whom: pages that are promised to a domain which has not taken them yet, and those that
the kernel has promised to somebody's mapping, are free and yet nobody else's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from hostlerd.decide.hugepages.needs import Need
from hostlerd.model.hugepages import Hugepages, Pool
from hostlerd.model.ledger import HugepagesRecord
from hostlerd.model.observed import Observed


class Stock:
    """`promised`: by path of the pool, to domains whose QEMU has yet to take them."""

    def __init__(self, observed: Observed, pages: Hugepages, records: Mapping[str, HugepagesRecord]) -> None:
        self.pages = pages
        self.promised = Counter[str]()
        self._free = {(pool.page_kib, pool.node): pool.free for pool in pages.pools}
        self._kernels = dict(pages.reserved)
        self._memory = {node.id: node.memory_kib for node in observed.topology.nodes}
        self._ours = Counter[str]()
        for record in records.values():
            self._ours[record.path] += record.added
        self._left = dict(pages.taken)
        running = {one.uuid for one in observed.snapshot.running if one.state == "running"}
        self._running = {c.uuid for c in observed.ledger.claims.values() if c.prepared} & running

    def pool(self, page_kib: int, node: int) -> Pool:
        return self.pages.of(page_kib)[node]

    def base(self, pool: Pool) -> int:
        """Of its lasting pages those that are nobody's of ours."""
        return max(0, pool.lasting - self._ours[pool.path])

    def free(self, page_kib: int, nodes: Iterable[int]) -> int:
        """On these nodes. What a mapping has a right to may come from any node: from others first."""
        nodes = frozenset(nodes)
        here = sum(self._free.get((page_kib, node), 0) for node in nodes)
        every = sum(free for (size, _), free in self._free.items() if size == page_kib)
        return max(0, min(here, every - self._kernels.get(page_kib, 0)))

    def capacity(self, page_kib: int, node: int) -> int:
        """How many pages the node could have more if nothing else was on it. Asking for more drives it out in vain."""
        huge = sum(pool.total * pool.page_kib for pool in self.pages.pools if pool.node == node)
        return max(0, self._memory.get(node, huge) - huge) // page_kib

    def add(self, page_kib: int, node: int, pages: int) -> None:
        """They are about to be there."""
        self._free[page_kib, node] += pages

    def promise(self, uuid: str, need: Need) -> None:
        """Nobody else's from now on; of a domain that runs, and of what it has already, nothing is missing any more."""
        if uuid in self._running:
            return
        pages = need.pages - self._taken(uuid, need)
        for node in (*need.where, *sorted(need.enough), *sorted(need.else_)):
            key = need.page_kib, node
            took = min(pages, self._free.get(key, 0))
            if took > 0:
                pages -= took
                self._free[key] -= took
                self.promised[self.pool(*key).path] += took

    def _taken(self, uuid: str, need: Need) -> int:
        had = min(self._left.get(uuid, 0) // need.page_kib, need.pages)
        if had:
            self._left[uuid] -= had * need.page_kib
        return had
