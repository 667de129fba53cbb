"""The planner's one entry: from needs and where the domains run now to an assignment for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hostlerd.decide.placement.assignment import assign
from hostlerd.decide.placement.layout import Layout
from hostlerd.decide.placement.need import Assignment, Need
from hostlerd.decide.placement.objective import Terms, terms
from hostlerd.decide.placement.pricing import Pricing
from hostlerd.decide.placement.rates import Rates
from hostlerd.decide.placement.search import Search
from hostlerd.decide.placement.topology import Host
from hostlerd.model.cpuset import CpuSet

BUDGET = (
    3_600  # of what Candidates.work counts, some 30 us each; one domain more may be begun when it is reached
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """`assignments`: None floats on the host's CPUs. `complete`: False when the budget ended the search early.

    `terms`: the whole placement's vector.
    """

    assignments: Mapping[str, Assignment | None]
    complete: bool
    terms: Terms


def place(
    host: Host,
    needs: Iterable[Need],
    current: Mapping[str, Assignment | None],
    *,
    budget: int = BUDGET,
) -> Result:
    """CPUs for every need. `current`: where the domains run now; absent or None for one that has no CPUs of its own.

    A domain that is not movable keeps its CPUs, unless they are gone; when its vCPUs change in number, those that
    are left keep theirs.
    """
    needs = sorted(needs, key=lambda need: need.name)
    current = {need.name: current.get(need.name) for need in needs}
    fixed = _fixed(host, needs, current)
    while True:
        layout = Layout(host=host, blocked=frozenset(cpu for a in fixed.values() for cpu in a.cpus))
        rates = Rates(layout)
        pricings = {n.name: Pricing(layout, n, current[n.name], rates) for n in needs if n.name not in fixed}
        search = Search(layout, pricings, budget, host.spare(layout.blocked))
        plans = search.run().plans
        evicted = _evicted(layout.free, pricings, {name for name, plan in plans.items() if plan is None})
        if not evicted:
            break
        # No plan holds these where they are; what they have is better than nothing.
        fixed |= evicted
    assignments = {**fixed, **assign(layout, pricings, plans)}
    assignments = {need.name: assignments.get(need.name) for need in needs}
    return Result(
        assignments=assignments,
        complete=search.complete,
        terms=terms(host, needs, assignments, current),
    )


def _fixed(
    host: Host, needs: Iterable[Need], current: Mapping[str, Assignment | None]
) -> dict[str, Assignment]:
    """Those who may not be moved, where they are."""
    fixed: dict[str, Assignment] = {}
    free = host.usable
    for need in needs:
        given = current[need.name]
        if given is not None and not need.movable and len(given.vcpus) == need.vcpus and _holds(free, given):
            fixed[need.name] = given
            free -= frozenset(given.cpus)
    return fixed


def _evicted(free: CpuSet, pricings: Mapping[str, Pricing], floating: Iterable[str]) -> dict[str, Assignment]:
    """Running domains that were set afloat though no newcomer outranks them and their CPUs are still there."""
    gained = [p.need.priority for n, p in pricings.items() if n not in floating and not p.runs]
    evicted: dict[str, Assignment] = {}
    for name in sorted(floating):
        pricing = pricings[name]
        given = pricing.current
        outranked = pricing.need.priority < max(gained, default=pricing.need.priority)
        if given is not None and pricing.runs and not outranked and _holds(free, given):
            evicted[name] = given
            free -= frozenset(given.cpus)
    return evicted


def _holds(free: CpuSet, given: Assignment) -> bool:
    return free.issuperset(given.cpus) and len(set(given.cpus)) == len(given.cpus)
