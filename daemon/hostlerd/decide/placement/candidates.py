"""Plans worth trying for one domain, given what is free.

Guest cells are laid out one after the other (`spread`), keeping the few cheapest partial layouts; `completion` makes a
plan of each. What was found for a state of the ledger is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hostlerd.decide.placement.completion import Completion, Helpers
from hostlerd.decide.placement.ledger import Ledger
from hostlerd.decide.placement.pricing import Plan, Pricing
from hostlerd.decide.placement.spread import Spread, Spreads

PARTIALS = (3, 8)  # layouts of the earlier cells that are carried on: on hosts with many buckets, with few
COSTS = 3  # levels of locality at which an emulator is tried
FOLDS = 3  # cores that isolated vCPUs are tried to do without, by bucket

Candidate = tuple[int, int, Plan]  # cost with what it does and is going to do to others, own cost, plan


class Candidates:
    """The generator for one domain. `work` counts what it did: the search's measure of time."""

    def __init__(self, pricing: Pricing) -> None:
        self._pricing = pricing
        self._buckets = pricing.layout.buckets
        self._spreads = [Spreads(pricing, cell) for cell in range(len(pricing.cells))]
        self._known: dict[tuple[object, ...], list[Candidate]] = {}
        self._chosen: dict[tuple[int, tuple[object, ...]], list[Candidate]] = {}
        self._partials = max(PARTIALS[0], min(PARTIALS[1], 72 // max(1, len(self._buckets))))
        self.work = 0

    def best(self, ledger: Ledger, limit: int, *, tight: bool = False) -> list[Candidate]:
        """At most `limit` plans that fit, cheapest first. `tight`: cores may be shared with other owners."""
        key = (tight, *ledger.state())
        chosen = self._chosen.get((limit, key))
        if chosen is None:
            ranked = self._known.get(key)
            if ranked is None:
                ranked = self._known[key] = self._ranked(ledger, tight=tight)
            chosen = self._chosen[limit, key] = self._thrifty(ranked, limit) if tight else ranked[:limit]
        return chosen

    def _thrifty(self, ranked: list[Candidate], limit: int) -> list[Candidate]:
        """The cheapest, and the cheapest of those that leave more to others."""
        chosen: list[Candidate] = []
        least = 1 << 30
        for number, candidate in enumerate(ranked):
            footprint = self._pricing.footprint(candidate[2])
            if number < limit or footprint < least:
                chosen.append(candidate)
                least = min(least, footprint)
        return chosen

    def _ranked(self, ledger: Ledger, *, tight: bool) -> list[Candidate]:
        pricing = self._pricing
        plans = dict.fromkeys(self._plans(ledger, tight=tight))
        settled = pricing.settled
        if settled is not None and ledger.holds(settled):
            plans[settled] = None
        owns = {plan: pricing.cost(plan) for plan in plans}
        return sorted(
            [(own + ledger.effect(plan) + ledger.outlook(plan), own, plan) for plan, own in owns.items()]
        )

    def _plans(self, ledger: Ledger, *, tight: bool) -> Iterator[Plan]:
        for cells in self._layouts(ledger, tight=tight):
            counts = self._by_bucket(cells)
            for loose in (False, True) if tight else (False,):
                self.work += 1 + len(counts) // 4
                plan = self._complete(ledger, counts, Helpers(self._pricing.need.emulator), loose=loose)
                if plan is not None:
                    yield plan
                    for helpers, fold in self._variants(plan, loose=loose, tight=tight):
                        self.work += 1 + len(counts) // 4
                        other = self._complete(ledger, counts, helpers, loose=loose, fold=fold)
                        if other is not None:
                            yield other

    def _complete(
        self, ledger: Ledger, counts: dict[int, list[int]], helpers: Helpers, *, loose: bool, fold: int = 0
    ) -> Plan | None:
        return Completion(self._pricing, ledger).plan(counts, helpers, tight=loose, fold=fold)

    def _variants(self, plan: Plan, *, loose: bool, tight: bool) -> Iterator[tuple[Helpers, int]]:
        """Emulator CPUs elsewhere than with the vCPUs; in tight times also fewer of them, or fewer cores."""
        wanted = self._pricing.need.emulator
        if loose and self._pricing.need.isolated:
            for fold in range(1, FOLDS + 1):
                yield Helpers(wanted), fold
        if not wanted:
            return
        cost = self._pricing.emulator
        costs = sorted(set(cost))
        if any(cost[part.bucket] > costs[0] for part in plan if part.emulator):
            yield Helpers(wanted, apart=True, siblings=False), 0
        if any(part.cores > self._pricing.cores(self._buckets[part.bucket], part.vcpus, 0) for part in plan):
            yield Helpers(wanted, apart=True), 0
            for other in costs[1:COSTS]:
                yield Helpers(wanted, apart=True, cost=other), 0
        if tight:
            for fewer in range(sum(part.emulator for part in plan)):
                yield Helpers(fewer, apart=True), 0

    def _layouts(self, ledger: Ledger, *, tight: bool) -> list[list[Spread]]:
        """A spread for each cell."""
        marks = ledger.marks()
        layouts: list[list[Spread]] = [[]]
        for _ in self._spreads:
            longer: list[list[Spread]] = []
            for earlier in layouts:
                spreads = self._cell(earlier, ledger, marks, tight=tight)
                distinct = {tuple(sorted(spread.items())): spread for spread in spreads}
                longer += [[*earlier, spread] for spread in distinct.values()]
            layouts = longer if len(self._spreads) == 1 else self._promising(ledger, longer, tight=tight)
        return layouts

    def _promising(self, ledger: Ledger, layouts: list[list[Spread]], *, tight: bool) -> list[list[Spread]]:
        """The cheapest that differ in what they take; in tight times also the cheapest of those that take least."""
        found: dict[tuple[int, tuple[tuple[int, int], ...]], tuple[int, int, list[Spread]]] = {}
        self.work += len(layouts) // 3  # far cheaper than whole plans
        for layout in layouts:
            counts = self._by_bucket(layout)
            plan = self._complete(ledger, counts, Helpers(0), loose=False)
            if plan is None and tight:
                plan = self._complete(ledger, counts, Helpers(0), loose=True)
            if plan is not None:
                cost = self._pricing.cost(plan) + ledger.effect(plan) + ledger.outlook(plan)
                taken = tuple(sorted((index, sum(vcpus)) for index, vcpus in counts.items()))
                found.setdefault((cost, taken), (cost, self._pricing.footprint(plan), layout))
        cheapest = sorted(found.values(), key=lambda item: item[:2])
        kept = cheapest[: self._partials]
        if tight:
            least = sorted(cheapest[self._partials :], key=lambda item: (item[1], item[0]))
            kept += least[: self._partials]
        return [layout for *_, layout in kept]

    def _cell(
        self, earlier: Sequence[Spread], ledger: Ledger, marks: list[int], *, tight: bool
    ) -> Iterator[Spread]:
        """Spreads of the next cell into what the earlier ones leave."""
        pricing, buckets, free = self._pricing, self._buckets, ledger.free
        spreads = self._spreads[len(earlier)]
        self.work += 2 + len(buckets) // 8
        taken = [0] * len(buckets)
        for spread in earlier:
            for index, vcpus in spread.items():
                taken[index] += vcpus
        room = [pricing.capacity(b, free[b.index]) - n for b, n in zip(buckets, taken, strict=True)]
        room = [max(0, n) for n in room]
        whole = list(spreads.every(room, marks))
        yield from whole
        if tight:
            for spread in whole:
                yield from spreads.trimmed(spread, room)
            grain = pricing.need.threads
            room = [
                max(0, free[b.index] * b.width + opens - n)
                for b, opens, n in zip(buckets, ledger.opens(), taken, strict=True)
            ]
            even = [n - n % grain if b.width >= grain else n for n, b in zip(room, buckets, strict=True)]
            yield from spreads.every(even if sum(even) >= pricing.sizes[len(earlier)] else room, marks)

    def _by_bucket(self, cells: Sequence[Spread]) -> dict[int, list[int]]:
        count = len(self._spreads)
        if count == 1:
            return {index: [vcpus] for index, vcpus in cells[0].items()}
        counts: dict[int, list[int]] = {}
        for cell, spread in enumerate(cells):
            for index, vcpus in spread.items():
                counts.setdefault(index, [0] * count)[cell] = vcpus
        return counts
