"""What each bucket costs a vCPU and which are best by each term: one table for all domains that want the same."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.layout import Layout
from hostlerd.decide.placement.need import Need
from hostlerd.model.cpus import CoreClass

TERMS = (o.DISPLACED, o.SMT, o.CLASS, o.LOCALITY, o.CACHE, o.GPU_ROOM)
WHOLE = 1  # in place of a term: the whole cost

Pool = tuple[int, ...]  # buckets


class Rates:
    """The tables of a layout."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: dict[tuple[object, ...], Rate] = {}

    def of(self, need: Need, memory: frozenset[int]) -> Rate:
        """For vCPUs whose memory is, or is to be, on these nodes."""
        key = (need.gpu_node, need.core_class, need.prefer, need.threads, memory)
        rate = self._known.get(key)
        if rate is None:
            rate = self._known[key] = Rate(self._layout, need, memory)
        return rate


class Rate:
    """`vcpu`, `emulator`: cost of one by bucket."""

    def __init__(self, layout: Layout, need: Need, memory: frozenset[int]) -> None:
        host, self._buckets = layout.host, layout.buckets
        self._threads = need.threads
        near = host.near_memory(memory) if memory else None
        away = {node: o.LOCALITY * o.distance_cost(host, need, node, memory) for node in host.node_sets}
        gpu_room = need.gpu_node is None and host.gpus_apart
        self.vcpu = [
            o.DISPLACED * (near is not None and b.node not in near)
            + o.SMT * b.beside_host
            + o.CLASS * o.wrong_class(need, b.core_class)
            + away[b.node]
            + o.CACHE * o.spurned(need, small_cache=b.small_cache, slow=b.slow)
            + o.GPU_ROOM * (gpu_room and b.node in host.gpu_nodes)
            + o.LOUD * b.loud
            for b in self._buckets
        ]
        self.emulator = [o.SMT * b.beside_host + away[b.node] for b in self._buckets]
        self._firsts: dict[Pool, list[frozenset[int]]] = {}

    @cached_property
    def groups(self) -> list[Pool]:
        """Sets of buckets to look for room in: all, and the better ones alone."""
        buckets = self._buckets
        groups = {tuple(b.index for b in buckets): None}
        for some in self._classes(groups):
            groups[tuple(b.index for b in buckets if b.core_class == some)] = None
            groups[tuple(b.index for b in buckets if b.core_class != some)] = None
        wide = tuple(b.index for b in buckets if b.width >= self._threads)
        if wide:
            groups[wide] = None
        for term in TERMS:
            for group in [group for group in groups if group]:
                groups[self._best(group, term)] = None
        return list(groups)

    @cached_property
    def outweighing(self) -> list[Pool]:
        """Where these cannot hold a cell, as much as they hold counts for more than few nodes."""
        everything = tuple(range(len(self._buckets)))
        best = [self._best(everything, term) for term in (o.DISPLACED, o.SMT, o.CLASS)] if everything else []
        return [group for group in best if len(group) < len(everything)]

    def firsts(self, pool: Pool) -> list[frozenset[int]]:
        """Buckets of a pool to fill first: none in particular, each core class, the best by each term."""
        known = self._firsts.get(pool)
        if known is None:
            firsts = {frozenset[int](): None}
            for some in self._classes([pool]):
                firsts[frozenset(b for b in pool if self._buckets[b].core_class == some)] = None
            for term in (WHOLE, *TERMS):
                best = self._best(pool, term)
                if len(best) < len(pool):
                    firsts[frozenset(best)] = None
            known = self._firsts[pool] = list(firsts)
        return known

    def _classes(self, pools: Iterable[Pool]) -> list[CoreClass]:
        """The classes of core, where there is more than one."""
        classes = sorted({self._buckets[b].core_class for pool in pools for b in pool})
        return classes if len(classes) > 1 else []

    def _best(self, pool: Pool, term: int) -> Pool:
        """The buckets of a pool where a vCPU costs least in one term."""
        level = [self.vcpu[b] if term == WHOLE else self.vcpu[b] // term & o.MASK for b in pool]
        least = min(level)
        return tuple(b for b, n in zip(pool, level, strict=True) if n == least)
