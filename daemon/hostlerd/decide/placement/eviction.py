"""Whom to lift so that a domain gets a better plan: the occupants in the way of it, cheapest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.beam import Answer, Beam
from hostlerd.decide.placement.pricing import Plan

WANTED = 10  # better plans looked at
TOGETHER = 3  # occupants of a bucket tried in every combination; more are lifted smallest first
OCCUPANTS = 12  # of a bucket, in combinations


def evictions(beam: Beam, answer: Answer, name: str, core: int) -> Iterator[tuple[str, ...]]:
    """Sets of running domains to lift for `name`, whose core terms are `core` now, to do better."""
    others = {n: plan for n, plan in answer.plans.items() if plan is not None and n != name}
    real = beam.ledger(others)
    crowded = beam.empty.fork()
    crowded.claims = [all_ - free for all_, free in zip(crowded.free, real.free, strict=True)]
    wanted = beam.candidates[name].best(crowded, WANTED, tight=beam.tight)
    found: dict[tuple[str, ...], None] = {}
    for _, own, plan in wanted:
        if o.core_part(own) >= core:
            continue
        chosen: list[list[tuple[str, ...]]] = []
        for part in plan:
            lacking = part.cores + bool(part.loose) - real.free[part.bucket]
            if lacking > 0:
                chosen.append(_occupants(beam, others, part.bucket, lacking))
        if all(chosen):
            cheapest = [options[0] for options in chosen]
            found[_union(cheapest)] = None
            for i, options in enumerate(chosen):
                for other in options[1:3]:
                    found[_union([*cheapest[:i], other, *cheapest[i + 1 :]])] = None
    yield from sorted(found, key=lambda names: sum(beam.pricings[n].need.vcpus for n in names))


def _union(sets: list[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({name for names in sets for name in names}))


def _occupants(beam: Beam, others: Mapping[str, Plan], bucket: int, lacking: int) -> list[tuple[str, ...]]:
    """Sets of domains that hold so many cores of a bucket, the least vCPUs first."""
    cores = {n: p.cores + bool(p.loose) for n, plan in others.items() for p in plan if p.bucket == bucket}
    size = {name: beam.pricings[name].need.vcpus for name in cores}
    names = sorted(cores, key=lambda n: (size[n], n))
    enough: list[tuple[str, ...]] = []
    for count in range(1, TOGETHER + 1):
        for some in combinations(names[-OCCUPANTS:], count):
            held = sum(cores[n] for n in some)
            if held >= lacking and all(held - cores[n] < lacking for n in some):
                enough.append(some)
    if not enough:
        pile: list[str] = []
        held = 0
        for name in names:
            if held < lacking:
                pile.append(name)
                held += cores[name]
        if held >= lacking:
            enough.append(tuple(pile))
    return sorted(enough, key=lambda some: (sum(size[n] for n in some), some))
