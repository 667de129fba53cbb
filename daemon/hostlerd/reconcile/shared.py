"""What the lanes and the claims share: the journal, the policy in force, the last snapshot of the domains.

Nothing of the host is kept from one pass to the next but for readers: each pass observes anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import trio

from hostler.errors import HostlerError, Wedged
from hostlerd.act.definitions import Definitions
from hostlerd.act.journal import Journal
from hostlerd.act.memory import Memory
from hostlerd.decide import decide
from hostlerd.host import Host
from hostlerd.model.devices import is_address
from hostlerd.model.domains import Snapshot
from hostlerd.model.ledger import Trouble
from hostlerd.model.observed import Observed
from hostlerd.model.partition import EXCLUSIVE, KIND
from hostlerd.model.plan import Plan, Step
from hostlerd.model.questions import QUESTIONS
from hostlerd.model.settings import Settings
from hostlerd.observe.answers import answered
from hostlerd.reconcile.awake import Awake
from hostlerd.reconcile.guest_memory import GuestMemory
from hostlerd.reconcile.latch import Latch
from hostlerd.reconcile.late import Late
from hostlerd.reconcile.pressure import Lending

Tell = Callable[[str, str, str], None]
"""(kind, object, text): one line of `hostler watch`."""
Publish = Callable[[Observed, Plan, int], None]
"""(what was seen, what is left to do, number of the pass)."""


class Observe(Protocol):
    async def __call__(self, journal: Journal, snapshot: Snapshot) -> Observed: ...


@dataclass(slots=True, kw_only=True)
class Shared:
    """`released`: UUID to when the domain said that it was gone; an older snapshot says nothing about it."""

    host: Host
    journal: Journal
    settings: Settings
    observe: Observe
    tell: Tell
    publish: Publish
    definitions: Definitions
    memory: Memory
    look_at_host: Latch = field(default_factory=Latch)
    look_at_domains: Latch = field(default_factory=Latch)
    wedged: Latch = field(default_factory=Latch)
    """A write has been left behind: its end is to be waited for."""
    awake: Awake = field(init=False)
    guests: GuestMemory = field(init=False)
    lending: Lending = field(init=False)
    asked: trio.Event = field(default_factory=trio.Event)
    snapshot: Snapshot = field(default_factory=Snapshot)
    released: dict[str, int] = field(default_factory=dict)
    immovable: set[str] = field(default_factory=set[str])
    """Files and threads that the kernel did not let us change: not tried again while they are wished otherwise."""
    circumstances: tuple[object, ...] = ()
    """Of the last partitions, see tries_partitions_anew."""
    late: Late = field(default_factory=Late)
    observed: Observed | None = None
    plan: Plan = field(default_factory=Plan)
    count: int = 0

    def __post_init__(self) -> None:
        self.awake = Awake(self.look_everywhere)
        self.guests = GuestMemory(self.host, self.look_at_host.kick)
        self.lending = Lending(self.look_everywhere)
        self.count = max((claim.since for claim in self.journal.ledger.claims.values()), default=0)

    def next_count(self) -> int:
        """Orders claims, releases and snapshots."""
        self.count += 1
        return self.count

    def look_everywhere(self) -> None:
        self.look_at_host.kick()
        self.look_at_domains.kick()

    def hurry(self) -> None:
        """Somebody waits for the host lane: also where it pauses after a pass that failed."""
        self.look_at_host.kick()
        self.asked.set()
        self.asked = trio.Event()

    async def look(self) -> Observed:
        await self.memory.wait_loaded()
        observed = await self.observe(self.journal, self.snapshot)
        functions = self.memory.with_serials(observed.functions)
        # The snapshot and the journal of one moment: a pin that was confirmed meanwhile would look like the user's.
        return replace(
            observed,
            snapshot=self.snapshot,
            ledger=self.journal.ledger,
            known=self.memory.known,
            functions=functions,
            edits=self.definitions.edits,
            guest_memory=self.guests.known,
            immovable=frozenset(self.immovable),
            alive=dict.fromkeys(self.awake.silent, False),
            starving=self.lending.starving,
        )

    async def look_and_decide(self) -> tuple[Observed, Plan]:
        """Until all that the decision asks for is answered (model/questions)."""
        return await self.answer(await self.look())

    async def answer(self, observed: Observed) -> tuple[Observed, Plan]:
        plan = self.decide(observed)
        for _ in range(QUESTIONS):
            if not plan.questions:
                break
            asked = {question.object for question in plan.questions if question.kind == "memory"}
            self.guests.want(domain for domain in observed.snapshot.running if domain.uuid in asked)
            observed = await answered(self.host, observed, plan.questions)
            plan = self.decide(observed)
        return observed, plan

    def decide(self, observed: Observed) -> Plan:
        return decide(observed, self.settings)

    def seen(self, observed: Observed) -> Observed:
        """An observation with what is known by now of domains, of the journal and of edits."""
        ledger, before = self.journal.ledger, observed.ledger.programs
        given = {p.scope for p in ledger.programs.values() if p.given}
        return replace(
            observed,
            snapshot=self.snapshot,
            ledger=ledger,
            unseen=observed.unseen | given.difference(p.scope for p in before.values() if p.given),
            edits=self.definitions.edits,
            guest_memory=self.guests.known,
            starving=self.lending.starving,
        )

    def tries_partitions_anew(self, observed: Observed, plan: Plan) -> bool:
        """Whether a partition that could not be had may be granted now: masks, CPUs or what is wanted are others."""
        circumstances = (
            observed.topology.online,
            tuple((group.unit, group.allowed) for group in observed.groups.units),
            tuple((partition.path, partition.kind, partition.cpus) for partition in plan.partitions),
        )
        if circumstances == self.circumstances:
            return False
        self.circumstances = circumstances
        refused = {path for path in self.immovable if path.endswith((f"/{KIND}", f"/{EXCLUSIVE}"))}
        self.immovable -= refused
        return bool(refused)

    def forget_domain(self, uuid: str) -> None:
        """A domain that released its devices does not run, whatever an older snapshot says."""
        self.released[uuid] = self.next_count()
        self.guests.forget(uuid)
        running = tuple(domain for domain in self.snapshot.running if domain.uuid != uuid)
        self.snapshot = replace(self.snapshot, running=running)

    def tell_step(self, step: Step) -> None:
        self.tell(step.kind, step.object, f"{step.before or '-'} -> {step.after or '-'}: {step.why}")

    def forgive_gone(self, observed: Observed) -> None:
        """Of a function that is not there any more no write hangs."""
        for obj, trouble in tuple(self.journal.ledger.troubles.items()):
            if trouble.wedged and is_address(obj) and obj not in observed.functions:
                self.journal.forgive(obj)
                self.tell("gone", obj, "it was degraded, and is gone")

    def degrade(self, obj: str, error: HostlerError) -> None:
        """Touch the object no more until somebody says `hostler retry`."""
        wedged = isinstance(error, Wedged)
        remedy = error.remedy or ("reboot" if wedged else f"mend it, then `hostler retry {obj}`")
        trouble = Trouble(object=obj, reason=error.message, remedy=remedy, since=time.time(), wedged=wedged)
        self.journal.trouble(trouble)
        if wedged:
            self.wedged.kick()
        self.tell("degraded", obj, f"{trouble.reason}; {trouble.remedy}")
