"""Which plan each domain gets: an anytime search, deterministic because its budget counts plans priced, not time.

First everybody who runs well stays and the others are placed into what is free. Where that leaves somebody with less
than an empty host would give, those in the way of a better plan are lifted and placed anew, which may leave one of them
wanting in turn (a chain). Last, small sets of domains are lifted whether or not they are in the way, for fewer
migrations or for what the chains missed; a set is skipped when even the best plans for it could not help.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from heapq import heappop, heappush
from itertools import combinations

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.beam import Answer, Beam
from hostlerd.decide.placement.eviction import evictions
from hostlerd.decide.placement.layout import Layout
from hostlerd.decide.placement.ledger import Ledger
from hostlerd.decide.placement.need import Need
from hostlerd.decide.placement.pricing import Plan, Pricing

SETS = (1000, 64, 24)  # how many domains there may be for every one, pair, triple of them to be lifted
DEMOTIONS = 6  # sets of domains that are tried to make way for a higher priority
LINKS = 3  # answers a chain may be long
UNHAPPY = 4  # domains an answer is expanded for


class Search:
    """`pricings`: the domains to be planned; those that may not be moved are part of the layout already."""

    def __init__(self, layout: Layout, pricings: Mapping[str, Pricing], budget: int, spare: int) -> None:
        """`budget`: plans to be priced. `spare`: CPUs of the host's reserve that may be given away."""
        self.pricings = pricings
        self.complete = True
        self._budget = budget
        self._room = spare + sum(len(b.cores) * b.width for b in layout.buckets if not b.scarce)
        self._beam = Beam(pricings, Ledger(layout, spare), budget)
        self._settled = {name: p.settled for name, p in pricings.items() if p.settled is not None}
        self._loose = tuple(name for name in pricings if name not in self._settled)
        self._ideal = self._ideals()
        self._bound = sum(self._ideal.values())
        self._excess = {
            name: self._core(name, plan) - self._ideal[name] for name, plan in self._settled.items()
        }
        # The core terms when all stay and the others get the best they could have alone.
        self._staying = self._bound + sum(self._excess.values())
        self._best = Answer(o.ILLEGAL * (1 + len(pricings)), {})

    def run(self) -> Answer:
        self._improve(self._budget // 4)
        if not self._perfect() and o.crowding_part(self._best.cost):
            self._beam.tight = True
            self._improve(self._budget // 2)
        self._beam.width *= 3
        self._improve(self._budget)
        return self._best

    def _improve(self, budget: int) -> None:
        if not self._perfect():
            start = self._beam.place(self._settled, self._loose)
            self._offer(start)
            for lifted in (*self._demotions(), *self._generous()):
                self._lift(lifted)
            self._chains(start, (self._beam.spent + budget) // 2)
            self._sets(budget)

    def _offer(self, answer: Answer) -> None:
        if answer.cost < self._best.cost:
            self._best = answer

    def _perfect(self) -> bool:
        return o.core_part(self._best.cost) == self._bound and not o.migrations_of(self._best.cost)

    # Bounds.

    def _ideals(self) -> dict[str, int]:
        """The least core terms each domain can have. Domains with like needs share theirs."""
        known: dict[Need, int] = {}
        ideals: dict[str, int] = {}
        for name, pricing in self.pricings.items():
            like = replace(pricing.need, name="")
            if like not in known:
                known[like] = self._alone(name)
            ideals[name] = o.core_part(pricing.floating) if self._crowded_out(pricing) else known[like]
        return ideals

    def _crowded_out(self, pricing: Pricing) -> bool:
        """A newcomer that must float, whatever moves: those who need not yield to it leave too few CPUs."""
        if pricing.runs:
            return False
        highest = max(p.need.priority for p in self.pricings.values() if not p.runs)
        senior = (p for p in self.pricings.values() if p.runs and p.need.priority >= highest)
        return sum(p.need.vcpus for p in senior) + pricing.need.vcpus > self._room

    def _alone(self, name: str) -> int:
        best = o.core_part(self.pricings[name].floating)
        for tight in (False, True):
            found = self._beam.candidates[name].best(self._beam.empty, 1, tight=tight)
            if found:
                best = min(best, o.core_part(found[0][1]))
            if not o.crowding_part(best << o.CORE_SHIFT):
                break
        return best

    def _core(self, name: str, plan: Plan | None) -> int:
        pricing = self.pricings[name]
        return o.core_part(pricing.floating if plan is None else pricing.cost(plan))

    # Chains: lift those in the way.

    def _chains(self, start: Answer, budget: int) -> None:
        frontier: list[tuple[int, int, int, Answer]] = [(start.cost, 0, 0, start)]
        seen = {self._key(start)}
        number = 0
        while frontier and not self._perfect():
            _, _, links, answer = heappop(frontier)
            for name in self._unhappy(answer):
                core = self._core(name, answer.plans[name])
                for lifted in evictions(self._beam, answer, name, core):
                    if self._beam.spent >= budget:
                        self.complete = False
                        return
                    names = tuple(dict.fromkeys((name, *lifted, *self._loose)))
                    stay = {n: p for n, p in answer.plans.items() if p is not None and n not in names}
                    floating = tuple(n for n, p in answer.plans.items() if p is None and n not in names)
                    after = self._beam.place(stay, names + floating)
                    self._offer(after)
                    key = self._key(after)
                    if key not in seen:
                        seen.add(key)
                        number += 1
                        if links + 1 < LINKS:
                            heappush(frontier, (after.cost, number, links + 1, after))
                    if self._perfect():
                        return

    def _unhappy(self, answer: Answer) -> list[str]:
        """Domains with worse core terms than they could have alone, the worst first."""
        excess = {name: self._core(name, plan) - self._ideal[name] for name, plan in answer.plans.items()}
        worst = sorted((name for name in excess if excess[name] > 0), key=lambda name: (-excess[name], name))
        return worst[:UNHAPPY]

    def _key(self, answer: Answer) -> frozenset[tuple[str, Plan | None]]:
        return frozenset(answer.plans.items())

    # Small sets, cheapest move first.

    def _sets(self, budget: int) -> None:
        for lifted in self._combinations():
            if self._perfect():
                return
            if self._beam.spent >= budget:
                self.complete = False
                return
            if self._hopeful(lifted):
                self._lift(lifted)

    def _lift(self, lifted: tuple[str, ...]) -> None:
        stay = {name: plan for name, plan in self._settled.items() if name not in lifted}
        self._offer(self._beam.place(stay, [*lifted, *self._loose]))

    def _demotions(self) -> list[tuple[str, ...]]:
        """The lightest sets of running domains that could make room for newcomers which outrank them."""
        newcomers = [p.need for p in self.pricings.values() if not p.runs]
        highest = max((need.priority for need in newcomers), default=0)
        junior = [n for n in self._settled if self.pricings[n].need.priority < highest]
        held = {name: self.pricings[name].taken(plan) for name, plan in self._settled.items()}
        lacking = sum(need.vcpus for need in newcomers if need.priority == highest)
        lacking -= self._room - sum(held.values())
        if lacking <= 0 or len(junior) > SETS[2]:
            return []
        enough = [
            some
            for count in range(1, len(SETS) + 1)
            for some in combinations(junior, count)
            if sum(held[name] for name in some) >= lacking
        ]
        return sorted(enough, key=lambda some: sum(self.pricings[name].floating for name in some))[:DEMOTIONS]

    def _generous(self) -> list[tuple[str, ...]]:
        """Who could make room for those who float by giving up CPUs that none of its vCPUs runs on."""
        lacking = sum(p.need.vcpus for n, p in self.pricings.items() if self._best.plans.get(n) is None)
        if not self._beam.tight or not lacking:
            return []
        taken = {name: self.pricings[name].taken(plan) for name, plan in self._settled.items()}
        extra = {name: count - self.pricings[name].need.vcpus for name, count in taken.items()}
        lacking -= self._room - sum(taken.values())
        pile: list[str] = []
        for name in sorted(extra, key=lambda n: (-extra[n], self.pricings[n].need.vcpus, n)):
            if lacking > 0 and extra[name]:
                pile.append(name)
                lacking -= extra[name]
        return [tuple(pile)] if pile and lacking <= 0 else []

    def _combinations(self) -> Iterator[tuple[str, ...]]:
        names = sorted(self._settled, key=lambda name: (self.pricings[name].need.vcpus, name))
        for count, most in enumerate(SETS, start=1):
            if len(names) <= most:
                yield from sorted(combinations(names, count), key=self._least_moves)

    def _hopeful(self, lifted: tuple[str, ...]) -> bool:
        """Whether lifting them could give a better answer than the best."""
        core = self._staying - sum(self._excess[name] for name in lifted)
        best = o.core_part(self._best.cost)
        return core < best or (core == best and self._least_moves(lifted) < o.migrations_of(self._best.cost))

    def _least_moves(self, names: tuple[str, ...]) -> int:
        return sum(self.pricings[name].need.vcpus for name in names)
