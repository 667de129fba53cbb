"""Huge pages for domains whose definition asks for them: what is missing is added before the start, on the right nodes,
and taken away again when the domain is gone.

Pure. nr_hugepages counts pages that everybody uses, so nothing is ever put back to an old value: what we added is kept
as a difference, by domain and pool, and taken off whatever is there then. The kernel gives fewer than it is asked for
without an error, and no event tells of any of this: so after each write one looks again, and what came of it is counted
(see counting).

One change of a pool a round: what came of two could not be told apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hostlerd.decide.hugepages.counting import count
from hostlerd.decide.hugepages.needs import needs
from hostlerd.decide.hugepages.reserving import Reserving
from hostlerd.decide.hugepages.returning import give_back
from hostlerd.decide.hugepages.stock import Stock
from hostlerd.model.ledger import HugepagesRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Placement, Refusal, Step
from hostlerd.model.questions import Question
from hostlerd.model.settings import Settings

QUESTION = Question(kind="hugepages", object="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What the plan takes from here (see Plan)."""

    steps: tuple[Step, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    questions: tuple[Question, ...] = ()
    settled: tuple[str, ...] = ()
    counted: tuple[HugepagesRecord, ...] = ()
    waiting: frozenset[str] = frozenset()


def decide_hugepages(
    observed: Observed,
    settings: Settings,
    placements: Mapping[str, Placement],
    not_yet: Collection[str | None],
) -> Pages:
    """`not_yet`: claims that are refused, or for which something has to get out of the way first."""
    ledger = observed.ledger
    by_age = sorted(ledger.claims.values(), key=lambda claim: claim.since)
    claims = [claim for claim in by_age if claim.definition.asks_for_hugepages]
    wanted = [claim for claim in claims if not claim.prepared and claim.uuid not in not_yet]
    unclear = [r for r in ledger.hugepages.values() if r.is_open or r.uuid not in ledger.claims]
    if not wanted and not [r for r in unclear if not ledger.untouchable(r.path)]:
        return Pages()
    if observed.hugepages is None:
        return Pages(questions=(QUESTION,))
    counted = count(observed, observed.hugepages)
    stock = Stock(observed, observed.hugepages, counted.records)
    for claim in [claim for claim in claims if claim.prepared]:
        for need in needs(observed, observed.hugepages, claim.definition, placements.get(claim.uuid)):
            stock.promise(claim.uuid, need)
    returns = give_back(observed, stock, counted)
    touched = {step.object for step in returns.steps}
    reserving = Reserving(observed=observed, stock=stock, records=counted.records, touched=touched)
    for claim in wanted:
        found = needs(observed, observed.hugepages, claim.definition, placements.get(claim.uuid))
        policy = settings.domain(claim.definition.name, claim.uuid).hugepages
        if policy.mode == "off":
            for need in found:
                stock.promise(claim.uuid, need)
        else:
            reserving.reserve(claim, found, policy)
    return Pages(
        steps=(*returns.steps, *reserving.steps),
        refusals=tuple(reserving.refusals),
        settled=tuple(returns.settled),
        counted=tuple(r for r in counted.news if r.key not in returns.settled),
        waiting=frozenset(reserving.waiting),
    )


__all__ = ["Pages", "decide_hugepages"]
