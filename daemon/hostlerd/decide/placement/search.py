"""Which plan each domain gets: an anytime search, deterministic because its budget counts plans priced, not time.

First everybody who runs well stays and the others are placed into what is free. Then a few domains at a time are
lifted out and placed anew together with the newcomers, first those whose move is cheapest, for as long as something
could still be gained: each domain's best core terms on an empty host bound what the sum can reach, and a set of
domains whose move costs more than the best answer's migrations is skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.candidates import Candidates
from hostlerd.decide.placement.pricing import Ledger, Plan, Pricing
from hostlerd.decide.placement.topology import Layout

BEAM = 6
LIFTED = 3  # running domains lifted at once, at most


@dataclass(slots=True)
class Answer:
    """A plan per domain, None for one that floats, and their cost."""

    cost: int
    plans: dict[str, Plan | None]


@dataclass(slots=True)
class _Partial:
    ledger: Ledger
    plans: dict[str, Plan | None]


@dataclass
class Search:
    """`pricings`: the domains to be planned, those that may not be moved being part of the layout already."""

    layout: Layout
    pricings: dict[str, Pricing]
    budget: int
    spare: int
    tight: bool = False
    complete: bool = True
    candidates: dict[str, Candidates] = field(init=False)

    def __post_init__(self) -> None:
        self.candidates = {name: Candidates(pricing) for name, pricing in self.pricings.items()}
        self._empty = Ledger(self.layout, self.spare)
        self._ideal = {name: self._best_alone(name) for name in self.pricings}
        self._bound = sum(self._ideal.values())
        self._newcomers = [p for p in self.pricings.values() if not p.runs]

    @property
    def spent(self) -> int:
        return sum(candidates.tried for candidates in self.candidates.values())

    def run(self) -> Answer:
        answer = self._search()
        if o.crowding_part(answer.cost) > o.crowding_part(self._bound << o.CORE_SHIFT):
            self.tight = True
            answer = min(answer, self._search(), key=lambda a: a.cost)
        return answer

    def _search(self) -> Answer:
        settled = {name: p.settled for name, p in self.pricings.items() if p.settled is not None}
        loose = [name for name in self.pricings if name not in settled]
        best = self._place(settled, loose)
        return self._improve(best, settled, loose)

    # Bounds.

    def _best_alone(self, name: str) -> int:
        """The least core terms a domain can have; to float, where the others that run leave too little."""
        pricing = self.pricings[name]
        afloat = o.core_part(pricing.floating)
        if not pricing.runs:
            senior = (
                p for p in self.pricings.values() if p.runs and p.need.priority >= pricing.need.priority
            )
            if sum(p.need.vcpus for p in senior) + pricing.need.vcpus > self.spare:
                return afloat
        best = afloat
        for tight in (False, True):
            found = self.candidates[name].best(self._empty, 1, tight=tight)
            if found:
                best = min(best, o.core_part(found[0][1]))
            if not o.crowding_part(best << o.CORE_SHIFT):
                break
        return best

    def _core(self, name: str, plan: Plan | None) -> int:
        pricing = self.pricings[name]
        return o.core_part(pricing.floating if plan is None else pricing.cost(plan))

    # Placing some while the others stay.

    def _afloat(self, name: str) -> int:
        """What it costs to let a domain float; a running one only yields to a newcomer of higher priority."""
        pricing = self.pricings[name]
        if pricing.runs and not any(n.need.priority > pricing.need.priority for n in self._newcomers):
            return pricing.floating + o.ILLEGAL
        return pricing.floating

    def _place(self, stay: dict[str, Plan], names: Sequence[str]) -> Answer:
        ledger = self._empty.fork()
        for name, plan in stay.items():
            ledger.add(plan, self.pricings[name].cost(plan))
        best: Answer | None = None
        for order in self._orders(names):
            answer = self._beam(ledger, order)
            if best is None or answer.cost < best.cost:
                best = answer
        assert best is not None  # noqa: S101
        return Answer(best.cost, {**stay, **best.plans})

    def _orders(self, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
        def size(name: str) -> tuple[int, int, str]:
            need = self.pricings[name].need
            return -need.priority, -self.pricings[name].total, name

        first = tuple(sorted(names, key=size))
        yield first
        running = tuple(sorted(names, key=lambda n: (not self.pricings[n].runs, size(n))))
        if running != first:
            yield running

    def _beam(self, ledger: Ledger, order: Sequence[str]) -> Answer:
        beam = [_Partial(ledger, {})]
        for name in order:
            options: list[tuple[int, int, Plan | None, int]] = []
            for number, partial in enumerate(beam):
                cost = partial.ledger.cost
                found = self.candidates[name].best(partial.ledger, BEAM, tight=self.tight)
                options += [(cost + total, number, plan, own) for total, own, plan in found]
                afloat = self._afloat(name)
                options.append((cost + afloat, number, None, afloat))
            options.sort(key=lambda option: option[:2])
            beam = self._longer(name, beam, options)
        return min((self._judged(partial) for partial in beam), key=lambda answer: answer.cost)

    def _longer(
        self, name: str, beam: Sequence[_Partial], options: Iterable[tuple[int, int, Plan | None, int]]
    ) -> list[_Partial]:
        """The cheapest that differ in what they leave; in tight times also cheap ones that leave more CPUs."""
        longer: list[_Partial] = []
        seen: set[tuple[int, ...]] = set()
        most = -1
        for _, number, plan, own in options:
            full = len(longer) >= BEAM
            if full and not self.tight:
                break
            spare = beam[number].ledger.spare - (self.pricings[name].footprint(plan) if plan else 0)
            if full and spare <= most:
                continue
            after = beam[number].ledger.fork()
            if plan is None:
                after.cost += own
            else:
                after.add(plan, own)
            left = (*after.free, *after.loose)
            if left not in seen:
                seen.add(left)
                most = max(most, spare)
                longer.append(_Partial(after, {**beam[number].plans, name: plan}))
        return longer

    def _judged(self, partial: _Partial) -> Answer:
        """A running domain may only have been set afloat for a newcomer of higher priority that does get CPUs."""
        placed = [p.need.priority for p in self._newcomers if partial.plans.get(p.need.name) is not None]
        cost = partial.ledger.cost
        for name, plan in partial.plans.items():
            pricing = self.pricings[name]
            if plan is None and pricing.runs and pricing.need.priority >= max(placed, default=0):
                cost += o.ILLEGAL
        return Answer(cost, partial.plans)

    # Lifting out domains that run.

    def _improve(self, best: Answer, settled: dict[str, Plan], loose: list[str]) -> Answer:
        bound = self._bound
        for lifted in self._sets(settled):
            if self._done(best, bound):
                break
            if self.spent >= self.budget:
                self.complete = False
                break
            if o.core_part(best.cost) == bound and self._least_moves(lifted) >= o.migrations_of(best.cost):
                continue
            stay = {name: plan for name, plan in settled.items() if name not in lifted}
            answer = self._place(stay, [*lifted, *loose])
            if answer.cost < best.cost:
                best = answer
        return best

    def _done(self, best: Answer, bound: int) -> bool:
        return o.core_part(best.cost) == bound and o.migrations_of(best.cost) == 0

    def _sets(self, settled: Iterable[str]) -> Iterator[tuple[str, ...]]:
        names = sorted(settled, key=lambda name: (self.pricings[name].need.vcpus, name))
        for count in range(1, LIFTED + 1):
            yield from sorted(
                combinations(names, count), key=lambda c: sum(self.pricings[n].need.vcpus for n in c)
            )

    def _least_moves(self, names: Iterable[str]) -> int:
        return sum(self.pricings[name].need.vcpus for name in names)
