"""Placing some domains one after the other while the rest stay, keeping the few best partial answers on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.candidates import Candidates
from hostlerd.decide.placement.ledger import Ledger
from hostlerd.decide.placement.pricing import Plan, Pricing

WIDTH = 6
ORDERS = 6  # domains placed together of which more than one order is tried


@dataclass(frozen=True, slots=True)
class Answer:
    """A plan per domain, None for one that floats, and their cost."""

    cost: int
    plans: Mapping[str, Plan | None]


@dataclass(slots=True)
class _Partial:
    ledger: Ledger
    plans: dict[str, Plan | None]


class Beam:
    """`empty`: the ledger with nobody in it. `budget`: work after which only the best is carried on.

    `tight`: cores may be shared with other owners.
    """

    def __init__(self, pricings: Mapping[str, Pricing], empty: Ledger, budget: int) -> None:
        self.pricings = pricings
        self.empty = empty
        self.tight = False
        self.width = WIDTH
        self.budget = budget
        self.candidates = {name: Candidates(pricing) for name, pricing in pricings.items()}
        self._newcomers = [p.need for p in pricings.values() if not p.runs]

    @property
    def spent(self) -> int:
        return sum(candidates.work for candidates in self.candidates.values())

    def ledger(self, stay: Mapping[str, Plan]) -> Ledger:
        ledger = self.empty.fork()
        for name, plan in stay.items():
            ledger.add(plan, self.pricings[name].cost(plan))
        return ledger

    def place(self, stay: Mapping[str, Plan], names: Sequence[str]) -> Answer:
        """The best answer found in which `stay` keep their plans and `names` get one or float."""
        ledger = self.ledger(stay)
        answers: list[Answer] = []
        for order in self._orders(names):
            if not answers or self.spent < self.budget:
                answers.append(self._extend(ledger, order))
        best = min(answers, key=lambda answer: answer.cost)
        return Answer(best.cost, {**stay, **best.plans})

    def afloat(self, name: str) -> int:
        """What it costs to let a domain float; a running one only yields to a newcomer of higher priority."""
        pricing = self.pricings[name]
        if pricing.runs and not any(n.priority > pricing.need.priority for n in self._newcomers):
            return pricing.floating + o.ILLEGAL
        return pricing.floating

    def _orders(self, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """The larger first; if there are not too many, also the newcomers first, and those that have CPUs first."""

        def size(name: str) -> tuple[int, int, str]:
            need = self.pricings[name].need
            return -need.priority, -self.pricings[name].total, name

        def here(name: str) -> bool:
            return self.pricings[name].current is not None

        orders = {tuple(sorted(names, key=size)): None}
        if len(names) <= ORDERS:
            orders[tuple(sorted(names, key=lambda name: (here(name), size(name))))] = None
            orders[tuple(sorted(names, key=lambda name: (not here(name), size(name))))] = None
        yield from orders

    def _extend(self, ledger: Ledger, order: Sequence[str]) -> Answer:
        beam = [_Partial(ledger, {})]
        width = max(1, min(self.width, 8 * self.width // max(1, len(order))))
        for number, name in enumerate(order):
            claims = self._claims(order[number + 1 :])
            for partial in beam:
                partial.ledger.claims = claims
            if self.spent >= self.budget:
                width = 1
            options: list[tuple[int, int, Plan | None, int]] = []
            afloat = self.afloat(name)
            for origin, partial in enumerate(beam):
                cost = partial.ledger.cost
                found = self.candidates[name].best(partial.ledger, width, tight=self.tight)
                options += [(cost + total, origin, plan, own) for total, own, plan in found]
                options.append((cost + afloat, origin, None, afloat))
            options.sort(key=lambda option: option[:2])
            beam = self._keep(name, beam, options, width)
        return min((self._judged(partial) for partial in beam), key=lambda answer: answer.cost)

    def _claims(self, names: Iterable[str]) -> list[int]:
        """Cores by bucket that domains hold which are still to be placed."""
        claims = [0] * len(self.empty.free)
        for name in names:
            for index, cores in self.pricings[name].holds.items():
                claims[index] += cores
        return claims

    def _keep(
        self,
        name: str,
        beam: Sequence[_Partial],
        options: Iterable[tuple[int, int, Plan | None, int]],
        width: int,
    ) -> list[_Partial]:
        """The cheapest that differ in what they leave; in tight times also cheap ones that leave more CPUs."""
        kept: list[_Partial] = []
        seen: set[tuple[int, ...]] = set()
        most = -1
        for _, number, plan, own in options:
            full = len(kept) >= width
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
                kept.append(_Partial(after, {**beam[number].plans, name: plan}))
        return kept

    def _judged(self, partial: _Partial) -> Answer:
        """A running domain may only have been set afloat for a newcomer of higher priority that does get CPUs."""
        placed = [need.priority for need in self._newcomers if partial.plans.get(need.name) is not None]
        cost = partial.ledger.cost
        for name, plan in partial.plans.items():
            pricing = self.pricings[name]
            if plan is None and pricing.runs and pricing.need.priority >= max(placed, default=0):
                cost += o.ILLEGAL
        return Answer(cost, partial.plans)
