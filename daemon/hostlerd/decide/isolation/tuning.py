"""Everything that is set for isolated CPUs beside the masks of units, and the questions that come before.

Pure. Not before a domain is prepared: nothing of it is needed for its start, and a start that fails costs no more than
it must.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hostlerd.decide.attributes import Wish
from hostlerd.decide.isolation.balancer import decide_balancer
from hostlerd.decide.isolation.interrupts import immovable, interrupt_wishes, moved
from hostlerd.decide.isolation.isolated import Isolated
from hostlerd.decide.isolation.kthreads import decide_kthreads
from hostlerd.decide.isolation.power import power_wishes
from hostlerd.decide.isolation.work import work_wishes
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Step, Tuned
from hostlerd.model.profile import Isolation
from hostlerd.model.questions import Question

NOTHING = Isolation()


@dataclass(slots=True, kw_only=True)
class Tunings:
    """`wishes`: for kernel files. `steps`: for what is no file. `identities`: what an interrupt's file is about."""

    wishes: list[Wish] = field(default_factory=list[Wish])
    steps: list[Step] = field(default_factory=list[Step])
    settled: list[str] = field(default_factory=list[str])
    questions: list[Question] = field(default_factory=list[Question])
    identities: dict[str, str] = field(default_factory=dict[str, str])
    tuned: Tuned = field(default_factory=Tuned)


def decide_tuning(observed: Observed, isolated: Sequence[Isolated]) -> Tunings:
    found, ledger = Tunings(), observed.ledger
    threads = bool(ledger.threads) or any(one.how.kthreads for one in isolated)
    wanted = any(_beyond_masks(one.how) for one in isolated)
    named = any(record.identity for record in ledger.attributes.values())
    if not (wanted or named or threads or ledger.balancers):
        return found
    if observed.tuning is None:
        found.questions.append(Question(kind="tuning", object="threads" if threads else ""))
        # Until it is answered nothing is put back that may be wanted.
        found.wishes = [Wish(path=path, value=None, why="") for path in ledger.attributes]
        return found
    tuning = observed.tuning
    found.identities = {interrupt.path: interrupt.name for interrupt in tuning.interrupts}
    found.wishes += interrupt_wishes(observed, tuning, isolated)
    found.wishes += work_wishes(observed, tuning, isolated)
    found.wishes += power_wishes(observed, tuning, isolated)
    balancing, settled, notes = decide_balancer(observed, tuning, isolated)
    moves, unmoved = decide_kthreads(observed, tuning, isolated)
    found.steps, found.settled = [*balancing, *moves], [*settled, *unmoved]
    found.tuned = Tuned(
        isolated=wanted,
        moved=moved(observed, tuning.interrupts),
        immovable=immovable(observed, tuning.interrupts),
        late=frozenset(one.name for one in isolated if one.functions and one.how.interrupts),
        notes=tuple(notes),
    )
    return found


def _beyond_masks(how: Isolation) -> bool:
    return any(
        getattr(how, key) != getattr(NOTHING, key) for key in Isolation.__slots__ if key not in _ELSEWHERE
    )


_ELSEWHERE = ("slices", "partition")
"""Masks and partitions are set another way."""
