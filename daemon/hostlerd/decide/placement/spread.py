"""How the vCPUs of one guest cell may be spread over buckets with room.

A cell is offered pools: the fewest NUMA nodes that hold it, among all buckets, among those of one core class, near its
memory, and of the cache it prefers. In each pool its vCPUs go to as few L3 domains as greed finds, with and without a
bias to where they run now. Of buckets and nodes that are alike to the domain only one is tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from hostlerd.decide.placement.pricing import Pricing
from hostlerd.decide.placement.rates import Pool

HOMES = 2  # buckets a cell runs in that are filled first
MOST_SETS = 72  # node sets of one size looked at; where there are more, only sets of near nodes

Spread = dict[int, int]  # bucket to vCPUs of one cell
Likeness = tuple[int, int, int]  # of a bucket to the domain: room, kind, the ledger's mark


class Spreads:
    """The generator for one cell of one domain."""

    def __init__(self, pricing: Pricing, cell: int) -> None:
        self._buckets = pricing.layout.buckets
        self._distance = pricing.layout.host.distance
        self._threads = pricing.need.threads
        self._isolated = pricing.need.isolated
        self._size = pricing.sizes[cell]
        self._at = pricing.at[cell]
        self._linear = pricing.linear[cell]
        self._rate = pricing.rates[cell]
        kinds: dict[tuple[int, int], int] = {}
        self._kind = [
            kinds.setdefault((cost, self._at.get(index, 0)), len(kinds))
            for index, cost in enumerate(self._linear)
        ]
        self._node = [bucket.node for bucket in self._buckets]
        self._l3 = [bucket.l3 for bucket in self._buckets]
        self._socket = {bucket.node: bucket.socket for bucket in self._buckets}
        self._node_sets: dict[tuple[tuple[int, ...], int], list[frozenset[int]]] = {}

    def every(self, room: list[int], marks: list[int]) -> Iterator[Spread]:
        """`room`: vCPUs each bucket holds; `marks`: what else makes a bucket different, the less the better."""
        if not self._size:
            yield {}
            return
        like = list(zip(room, self._kind, marks, strict=True))
        for pool in self._pools(room, like):
            yield from self._fill(pool, room, like)

    def trimmed(self, spread: Spread, room: Sequence[int]) -> Iterator[Spread]:
        """The same with vCPUs on narrower cores instead of beside siblings that would stay idle."""
        if self._threads > 1:
            return
        buckets = self._buckets
        other = dict(spread)
        for index, vcpus in spread.items():
            here = buckets[index]
            odd = vcpus if self._isolated else vcpus % here.width
            narrow = sorted(
                (self._linear[b.index], b.node != here.node, b.l3 != here.l3, b.index)
                for b in buckets
                if b.width < here.width
            )
            for *_, b in narrow:
                take = min(odd, room[b] - other.get(b, 0))
                if take > 0 and (take == odd or self._isolated):
                    other[index] -= take
                    other[b] = other.get(b, 0) + take
                    odd -= take
        if other != spread:
            yield {index: vcpus for index, vcpus in other.items() if vcpus}

    # Pools.

    def _pools(self, room: list[int], like: list[Likeness]) -> list[Pool]:
        """For each group, every set of the fewest nodes that holds the cell."""
        pools: dict[Pool, None] = {}
        node = self._node
        for group in self._rate.groups:
            open_ = tuple([b for b in group if room[b]])
            if sum([room[b] for b in open_]) < self._size:
                continue
            by_node: dict[int, int] = {}
            for b in open_:
                by_node[node[b]] = by_node.get(node[b], 0) + room[b]
            if len(by_node) == 1:
                pools[open_] = None
                continue
            kinds = self._node_kinds(open_, like)
            for nodes in self._fewest(by_node, kinds):
                pools[tuple([b for b in open_ if node[b] in nodes])] = None
        for group in self._rate.outweighing:
            if sum([room[b] for b in group]) < self._size:
                pools[tuple(b for b in range(len(room)) if room[b])] = None
        if self._at and self._rate.outweighing:
            # Who runs may do best to stay and grow into a further node that holds memory of it.
            pools[tuple(b for b in self._rate.outweighing[0] if room[b])] = None
        return [pool for pool in pools if sum([room[b] for b in pool]) >= self._size]

    def _fewest(self, by_node: dict[int, int], kinds: dict[int, int]) -> list[frozenset[int]]:
        """Sets of as few nodes as can be that have the room, one of each kind."""
        largest = sorted(by_node.values(), reverse=True)
        count = next(k for k in range(1, len(largest) + 1) if sum(largest[:k]) >= self._size)
        nodes = tuple(sorted(by_node))
        while count <= len(nodes):
            found: dict[tuple[int, ...], frozenset[int]] = {}
            for some in self._sets(nodes, count):
                if sum([by_node[node] for node in some]) >= self._size:
                    found.setdefault(tuple(sorted([kinds[node] for node in some])), some)
            if found:
                return list(found.values())
            count += 1
        return []

    def _node_kinds(self, open_: Pool, like: list[Likeness]) -> dict[int, int]:
        """A number per node, the same for nodes of a socket that are all alike to this domain."""
        inside: dict[int, list[Likeness]] = {}
        for b in open_:
            inside.setdefault(self._node[b], []).append(like[b])
        numbers: dict[tuple[int, tuple[Likeness, ...]], int] = {}
        return {
            node: numbers.setdefault((self._socket[node], tuple(sorted(marks))), len(numbers))
            for node, marks in inside.items()
        }

    def _sets(self, nodes: tuple[int, ...], count: int) -> list[frozenset[int]]:
        known = self._node_sets.get((nodes, count))
        if known is None:
            known = [frozenset(c) for c in _some_combinations(nodes, count)]
            if len(known) > MOST_SETS:
                near = [frozenset(self._nearest(node, nodes)[:count]) for node in nodes]
                known = list(dict.fromkeys(near))
            self._node_sets[nodes, count] = known
        return known

    def _nearest(self, node: int, nodes: Iterable[int]) -> list[int]:
        return sorted(nodes, key=lambda other: (self._distance(node, other), other))

    # Inside a pool.

    def _fill(self, pool: Pool, room: list[int], like: list[Likeness]) -> Iterator[Spread]:
        size, at = self._size, self._at
        fits = self._distinct([b for b in pool if room[b] >= size], like)
        for b in fits:
            yield {b: size}
        stay = {b: min(at[b], room[b]) for b in pool if b in at and room[b]} if at else {}
        # Where most of it runs comes first, too: to fill another bucket to the brim may move more.
        home = sorted((b for b in stay), key=lambda b: (-at[b], b))[:HOMES] if len(stay) > 1 else []
        for first in (*self._rate.firsts(pool), *(frozenset([b]) for b in home)):
            if first or not fits:
                yield from self._greedy(pool, room, {}, first, like)
            if stay and not (len(stay) == 1 and fits):
                yield from self._greedy(pool, room, stay, first, like)

    def _greedy(
        self, pool: Pool, room: list[int], stay: Spread, first: frozenset[int], like: list[Likeness]
    ) -> Iterator[Spread]:
        """Largest first, the rest to each that holds it. `stay`: how many are to be left where they are."""
        l3 = self._l3
        spread, left = self._begin(room, stay)
        in_l3: dict[int, int] = {}
        for b in pool:
            in_l3[l3[b]] = in_l3.get(l3[b], 0) + room[b]
        used = {l3[b] for b in spread}
        rest = [b for b in pool if b not in spread]
        while left and rest:
            ahead = [b for b in rest if b in first] or rest
            fits = [b for b in ahead if room[b] >= left]
            if fits:
                for b in self._distinct(fits, like):
                    yield {**spread, b: left}
                return
            _, _, _, _, b = min([(l3[b] not in used, -in_l3[l3[b]], -room[b], like[b][2], b) for b in ahead])
            rest.remove(b)
            used.add(l3[b])
            spread[b] = room[b]
            left -= room[b]
        if not left:
            yield spread

    def _begin(self, room: list[int], stay: Spread) -> tuple[Spread, int]:
        """Those that stay, with others beside them before another bucket is opened; and how many are left."""
        spread: Spread = {}
        left = self._size
        for b, n in sorted(stay.items(), key=lambda item: (-item[1], item[0])):
            take = min(n, left)
            take -= take % self._threads if take < left else 0
            if take:
                spread[b] = take
                left -= take
        for b in spread:
            take = min(left, room[b] - spread[b])
            spread[b] += take
            left -= take
        return spread, left

    def _distinct(self, choice: list[int], like: list[Likeness]) -> list[int]:
        """One of each kind and node, tightest first."""
        if len(choice) < 2:
            return choice
        seen: dict[tuple[int, Likeness], int] = {}
        for b in choice:
            seen.setdefault((self._node[b], like[b]), b)
        return sorted(seen.values(), key=like.__getitem__)


def _some_combinations(nodes: Sequence[int], count: int) -> Iterator[tuple[int, ...]]:
    """Combinations, but no more than one above the limit."""
    for number, chosen in enumerate(combinations(nodes, count)):
        if number > MOST_SETS:
            return
        yield chosen
