"""Plans worth trying for one domain, given what is free.

Cells are laid out one after the other, keeping the few cheapest partial layouts. A cell is offered pools: the fewest
NUMA nodes that hold it, among all buckets, among those of one core class, near its memory, and of the cache it prefers.
In each pool the vCPUs go to as few L3 domains as greed finds, once without and once with a bias to where they run now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.completion import Completion
from hostlerd.decide.placement.pricing import Ledger, Plan, Pricing
from hostlerd.decide.placement.topology import Bucket

MOST_POOLS = 72  # node sets of one size looked at; beyond, only sets of near nodes
PARTIALS = 4  # layouts of the earlier cells that are carried on

# What a bucket is to a domain: its room, the cost of a vCPU, how many are there now, and the ledger's mark.
Likeness = tuple[int, int, int, bool, bool, int]
Spread = dict[int, int]  # bucket to vCPUs of one cell
Candidate = tuple[int, int, Plan]  # cost with what it does to others, own cost, plan


class Candidates:
    """The generator for one domain. `tried` counts the plans it priced: the search's unit of work."""

    def __init__(self, pricing: Pricing) -> None:
        self.pricing = pricing
        self.buckets = pricing.layout.buckets
        self.tried = 0
        self._node_sets: dict[tuple[tuple[int, ...], int], list[frozenset[int]]] = {}
        self._groups = [self._groups_of(cell) for cell in range(len(pricing.cells))]

    def best(self, ledger: Ledger, limit: int, *, tight: bool = False) -> list[Candidate]:
        """At most `limit` plans that fit, cheapest first. `tight`: cores may be shared with other owners."""
        pricing = self.pricing
        found: dict[Plan, Candidate] = {}
        plans = list(self._plans(ledger, tight=tight))
        settled = pricing.settled
        if settled is not None and ledger.holds(settled):
            plans.append(settled)
        for plan in plans:
            if plan not in found:
                self.tried += 1
                own = pricing.cost(plan)
                found[plan] = (own + ledger.effect(plan), own, plan)
        ranked = sorted(found.values())
        if not tight:
            return ranked[:limit]
        # In tight times also the cheapest of those that leave more to others.
        chosen: list[Candidate] = []
        least = 1 << 30
        for number, candidate in enumerate(ranked):
            footprint = pricing.footprint(candidate[2])
            if number < limit or footprint < least:
                chosen.append(candidate)
                least = min(least, footprint)
        return chosen

    def _plans(self, ledger: Ledger, *, tight: bool) -> Iterator[Plan]:
        pricing = self.pricing
        layouts: list[tuple[int, list[dict[int, int]]]] = [(0, [])]
        for cell, size in enumerate(pricing.sizes):
            longer: dict[tuple[tuple[int, int], ...], tuple[int, list[dict[int, int]]]] = {}
            for cost, earlier in layouts:
                free = ledger.free.copy()
                for index, vcpus in self._by_bucket(earlier).items():
                    free[index] -= self.pricing.cores(self.buckets[index], vcpus, 0)
                for spread in self._spreads(cell, size, free, ledger, tight=tight):
                    key = tuple(sorted(spread.items()))
                    price = cost + self._price(cell, spread)
                    if key not in longer or price < longer[key][0]:
                        longer[key] = (price, [*earlier, spread])
            layouts = sorted(longer.values(), key=lambda item: item[0])
            if len(self.pricing.sizes) > 1:
                layouts = layouts[:PARTIALS]
        for _, cells in layouts:
            for loose in (False, True) if tight else (False,):
                plan = Completion(pricing, ledger).plan(self._by_bucket(cells), tight=loose)
                if plan is not None:
                    yield plan
                    if pricing.need.emulator:
                        yield from self._emulators(cells, ledger, plan, tight=loose, thrifty=tight)

    def _emulators(
        self, cells: Sequence[Spread], ledger: Ledger, plan: Plan, *, tight: bool, thrifty: bool
    ) -> Iterator[Plan]:
        """The same with the emulator's own cores elsewhere or, where that saves others something, fewer of them."""
        counts = self._by_bucket(cells)
        given = sum(part.emulator for part in plan)
        for emulator in (*range(given), given) if thrifty else (given,):
            other = Completion(self.pricing, ledger).plan(counts, tight=tight, emulator=emulator, apart=True)
            if other is not None:
                yield other

    def _by_bucket(self, cells: Sequence[Spread]) -> dict[int, list[int]]:
        counts: dict[int, list[int]] = {}
        for cell, spread in enumerate(cells):
            for index, vcpus in spread.items():
                counts.setdefault(index, [0] * len(self.pricing.sizes))[cell] = vcpus
        return counts

    def _price(self, cell: int, spread: Spread) -> int:
        """A cell's part of the cost, to choose which layouts are carried on."""
        linear, buckets = self.pricing.linear[cell], self.buckets
        cost = sum(linear[b] * n for b, n in spread.items())
        cost += o.NODE_SPAN * len({buckets[b].node for b in spread}) + o.L3_SPAN * len(
            {buckets[b].l3 for b in spread}
        )
        at = self.pricing.at[cell]
        return cost + o.MIGRATION * 2 * sum(max(0, n - spread.get(b, 0)) for b, n in at.items())

    # Where a cell may go.

    def _groups_of(self, cell: int) -> list[tuple[int, ...]]:
        """Sets of buckets to look for room in: all, and the better ones alone."""
        buckets, linear = self.buckets, self.pricing.linear[cell]
        everything = tuple(b.index for b in buckets)
        groups = [everything]
        classes = sorted({b.core_class for b in buckets})
        if len(classes) > 1:
            groups += [tuple(b.index for b in buckets if b.core_class == c) for c in classes]
            groups += [
                tuple(b.index for b in buckets if b.core_class != c) for c in classes if len(classes) > 2
            ]
        wide = tuple(b.index for b in buckets if b.width >= self.pricing.need.threads)
        if wide and wide not in groups:
            groups.append(wide)
        for term in (o.DISPLACED, o.SMT, o.CLASS, o.LOCALITY, o.CACHE, o.GPU_ROOM):
            for group in list(groups):
                level = {index: linear[index] // term % (1 << o.BITS) for index in group}
                best = tuple(index for index in group if level[index] == min(level.values()))
                if best not in groups:
                    groups.append(best)
        return groups

    def _spreads(
        self, cell: int, size: int, free: list[int], ledger: Ledger, *, tight: bool
    ) -> Iterator[Spread]:
        if not size:
            yield {}
            return
        pricing, buckets = self.pricing, self.buckets
        rooms = [[pricing.capacity(b, free[b.index]) for b in buckets]]
        if tight:
            room = [max(0, free[b.index] * b.width + ledger.open(b.index)) for b in buckets]
            grain = pricing.need.threads
            whole = [n - n % grain if b.width >= grain else n for n, b in zip(room, buckets, strict=True)]
            rooms.append(whole if sum(whole) >= size else room)
        at, linear = pricing.at[cell], pricing.linear[cell]
        for room in rooms:
            like = [
                (room[b.index], linear[b.index], at.get(b.index, 0), *ledger.mark(b.index)) for b in buckets
            ]
            for pool in self._pools(cell, size, room, like):
                yield from self._fill(cell, size, pool, room, like)

    def _pools(self, cell: int, size: int, room: list[int], like: list[Likeness]) -> list[tuple[int, ...]]:
        """For each group, every set of the fewest nodes that holds the cell."""
        buckets = self.buckets
        pools: dict[tuple[int, ...], None] = {}
        for group in self._groups[cell]:
            open_ = tuple(b for b in group if room[b])
            by_node: dict[int, int] = {}
            for b in open_:
                by_node[buckets[b].node] = by_node.get(buckets[b].node, 0) + room[b]
            if sum(by_node.values()) < size:
                continue
            largest = sorted(by_node.values(), reverse=True)
            fewest = next(k for k in range(1, len(largest) + 1) if sum(largest[:k]) >= size)
            kinds = self._kinds(open_, like)
            found = False
            for count in range(fewest, len(largest) + 1):
                known: set[tuple[int, ...]] = set()
                for nodes in self._sets(tuple(sorted(by_node)), count):
                    if sum(by_node[node] for node in nodes) >= size:
                        kind = tuple(sorted(kinds[node] for node in nodes))
                        if kind in known:
                            continue
                        known.add(kind)
                        pools[tuple(b for b in open_ if buckets[b].node in nodes)] = None
                        found = True
                if found:
                    break
        return list(pools)

    def _kinds(self, open_: tuple[int, ...], like: list[Likeness]) -> dict[int, int]:
        """A number per node, the same for nodes of a socket that are all alike to this domain."""
        inside: dict[int, list[Likeness]] = {}
        for b in open_:
            inside.setdefault(self.buckets[b].node, []).append(like[b])
        numbers: dict[tuple[int, tuple[Likeness, ...]], int] = {}
        socket = {self.buckets[b].node: self.buckets[b].socket for b in open_}
        return {
            node: numbers.setdefault((socket[node], tuple(sorted(marks))), len(numbers))
            for node, marks in inside.items()
        }

    def _sets(self, nodes: tuple[int, ...], count: int) -> list[frozenset[int]]:
        known = self._node_sets.get((nodes, count))
        if known is None:
            every = [frozenset(c) for c in _some_combinations(nodes, count)]
            if len(every) > MOST_POOLS:
                distance = self.pricing.layout.host.distance
                near = [sorted(nodes, key=lambda n, a=a: (distance(a, n), n))[:count] for a in nodes]  # type: ignore[misc]
                every = list(dict.fromkeys(frozenset(c) for c in near))
            known = self._node_sets[nodes, count] = every
        return known

    # How it is spread inside.

    def _fill(
        self, cell: int, size: int, pool: tuple[int, ...], room: list[int], like: list[Likeness]
    ) -> Iterator[Spread]:
        here = self.pricing.at[cell]
        fits = _distinct([b for b in pool if room[b] >= size], like, self.buckets)
        for b in fits:
            yield {b: size}
        for first in self._first(cell, pool):
            if first or not fits:
                yield from self._greedy(size, pool, room, {}, first, like)
        stay = {b: min(here[b], room[b]) for b in pool if b in here and room[b]}
        if stay and not (len(stay) == 1 and fits):
            for first in self._first(cell, pool):
                yield from self._greedy(size, pool, room, stay, first, like)

    def _first(self, cell: int, pool: tuple[int, ...]) -> list[frozenset[int]]:
        """Buckets to fill first: none, each core class, the cheapest."""
        buckets, linear = self.buckets, self.pricing.linear[cell]
        firsts = {frozenset[int](): None}
        classes = sorted({buckets[b].core_class for b in pool})
        if len(classes) > 1:
            firsts.update(
                dict.fromkeys(frozenset(b for b in pool if buckets[b].core_class == c) for c in classes)
            )
        cheapest = min(linear[b] for b in pool)
        cheap = frozenset(b for b in pool if linear[b] == cheapest)
        if len(cheap) < len(pool):
            firsts[cheap] = None
        return list(firsts)

    def _greedy(
        self,
        size: int,
        pool: tuple[int, ...],
        room: list[int],
        stay: Spread,
        first: frozenset[int],
        like: list[Likeness],
    ) -> Iterator[Spread]:
        """Largest buckets first, the rest to each that holds it. `stay`: how many are to be left where they are."""
        grain = self.pricing.need.threads
        spread: Spread = {}
        left = size
        for b, n in sorted(stay.items(), key=lambda item: (-item[1], item[0])):
            take = min(n, left)
            take -= take % grain if take < left else 0
            if take:
                spread[b] = take
                left -= take
        # What is already used is filled up before another bucket is opened.
        for b in spread:
            take = min(left, room[b] - spread[b])
            spread[b] += take
            left -= take
        buckets = self.buckets
        in_l3: dict[int, int] = {}
        for b in pool:
            in_l3[buckets[b].l3] = in_l3.get(buckets[b].l3, 0) + room[b]
        used = {buckets[b].l3 for b in spread}
        rest = [b for b in pool if b not in spread]
        while left and rest:
            ahead = [b for b in rest if b in first] or rest
            fits = [b for b in ahead if room[b] >= left]
            if fits:
                for b in _distinct(fits, like, self.buckets):
                    yield {**spread, b: left}
                return
            b = min(
                ahead,
                key=lambda b: (buckets[b].l3 not in used, -in_l3[buckets[b].l3], -room[b], like[b][-1], b),
            )
            rest.remove(b)
            used.add(buckets[b].l3)
            spread[b] = room[b]
            left -= room[b]
        if not left:
            yield spread


def _some_combinations(nodes: Sequence[int], count: int) -> Iterable[tuple[int, ...]]:
    """Combinations, but no more than one above the limit."""
    for number, chosen in enumerate(combinations(nodes, count)):
        if number > MOST_POOLS:
            return
        yield chosen


def _distinct(choice: list[int], like: list[Likeness], buckets: Sequence[Bucket]) -> list[int]:
    """One of each kind and node, tightest first."""
    seen: dict[tuple[int, Likeness], int] = {}
    for b in sorted(choice, key=lambda b: (like[b], b)):
        seen.setdefault((buckets[b].node, like[b]), b)
    return list(seen.values())
