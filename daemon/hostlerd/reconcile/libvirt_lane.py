"""The libvirt lane: a snapshot of the domains, then the pins and definitions that differ, until none does.

May wait as long as somebody's hook runs; nothing of the host waits for it. A definition is edited only when the wish
for it has lasted: a card that is rescanned, or a domain that is restarted, comes back in a moment.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import trio

from hostler.errors import BadInput, HostFailed, HostlerError, Refused
from hostlerd.act.definitions import Wish
from hostlerd.act.perform import perform
from hostlerd.model.domains import Snapshot
from hostlerd.model.plan import EditDefinition, Pin, Plan
from hostlerd.reconcile.claims import Claims
from hostlerd.reconcile.shared import Shared

log = logging.getLogger(__name__)

ROUNDS = 4
LASTING = 3.0
"""Seconds a definition must have been wanted otherwise before it is edited."""


class LibvirtLane:
    def __init__(self, shared: Shared, claims: Claims) -> None:
        self._shared, self._claims = shared, claims
        self._wanted: dict[tuple[str, str | None], float] = {}
        self._unseen: frozenset[str] = frozenset()

    @property
    def look_again_after(self) -> float:
        """Seconds until an edit that is wanted has been so for long enough."""
        if not self._wanted:
            return math.inf
        return max(0.0, min(self._wanted.values()) + LASTING - trio.current_time())

    async def one_pass(self) -> None:
        shared = self._shared
        for _ in range(ROUNDS):
            await self._take_snapshot()
            if shared.observed is None:
                return  # the host lane kicks this one when it has looked
            plan = shared.decide(shared.seen(shared.observed))
            pinned = await self._pin([step for step in plan.steps if isinstance(step, Pin)])
            if not (await self._edit(plan) or pinned):
                break

    async def _take_snapshot(self) -> None:
        shared, before = self._shared, self._shared.snapshot
        taken = shared.next_count()
        try:
            running = await shared.host.hypervisor.running()
            inactive = await shared.host.hypervisor.inactive()
        except HostlerError:
            shared.snapshot = replace(shared.snapshot, known=False)
            raise
        seen = frozenset(d.uuid for d in running) | frozenset(d.uuid for d in inactive)
        running = tuple(domain for domain in running if shared.released.get(domain.uuid, 0) < taken)
        shared.snapshot = Snapshot(known=True, taken=taken, running=running, inactive=inactive)
        shared.released = {uuid: when for uuid, when in shared.released.items() if when >= taken}
        self._end_claims(taken, frozenset(domain.uuid for domain in running))
        await self._settle_edits(seen, [domain.uuid for domain in inactive])
        if (before.known, before.running, before.inactive) != (True, running, inactive):
            shared.look_at_host.kick()

    def _end_claims(self, taken: int, active: frozenset[str]) -> None:
        """Those libvirt does not know as active, if it was asked after they were made."""
        for claim in tuple(self._shared.journal.ledger.claims.values()):
            if claim.since < taken and claim.uuid not in active and claim.uuid not in self._claims.waiting():
                self._claims.end(claim.uuid, "does not run any more")

    async def _settle_edits(self, seen: frozenset[str], inactive: list[str]) -> None:
        """What was begun before a kill, what somebody took back by hand, what is defined no more.

        A domain that starts between the two questions is in neither answer: one that is missing counts at the second
        look.
        """
        definitions = self._shared.definitions
        await definitions.wait_loaded()
        unseen = frozenset(definitions.edits) - seen
        for uuid in unseen & self._unseen:
            await definitions.forget(uuid)
        self._unseen = unseen
        await definitions.settle(inactive)

    async def _pin(self, steps: list[Pin]) -> bool:
        """True if any was set. A domain that refuses pins is not degraded for it: it may be on its way out."""
        refused: set[str] = set()
        done = False
        for step in steps:
            if step.uuid in refused:
                continue
            try:
                await perform(self._shared.host, self._shared.journal, step)
            except HostFailed as error:
                refused.add(step.uuid)
                log.warning("%s: %s", step.object, error.sentence, extra={"domain": step.object})
                self._shared.tell("failed", step.object, error.sentence)
            else:
                done = True
                self._shared.tell_step(step)
        return done

    async def _edit(self, plan: Plan) -> bool:
        """Make the edits that have been wanted for long enough. True if any was made."""
        steps = [step for step in plan.steps if isinstance(step, EditDefinition)]
        now, done = trio.current_time(), False
        since = {key: self._wanted.get(key, now) for step in steps for key in [(step.uuid, step.after)]}
        self._wanted = since
        for step in steps:
            key = (step.uuid, step.after)
            if now - since[key] < LASTING:
                continue
            del self._wanted[key]
            try:
                if step.change is None:
                    await self._shared.definitions.take_back(step.uuid)
                else:
                    wish = Wish(
                        uuid=step.uuid,
                        name=step.object,
                        change=step.change,
                        by="fallback",
                        before=step.before or "",
                        after=step.after or "",
                        lacks=step.lacks,
                    )
                    outcome = await self._shared.definitions.edit(wish)
                    if not outcome.changed:
                        raise HostFailed(f"nothing in the definition of {step.object} is its GPU")
            except Refused as error:
                log.info("%s: %s", step.object, error.sentence)  # somebody was faster
            except (HostFailed, BadInput) as error:
                log.warning("%s: %s", step.object, error.sentence, extra={"domain": step.object})
                self._shared.degrade(step.object, error)
            else:
                done = True
                self._shared.tell_step(step)
                log.info("definition of %s: %s", step.object, step.after, extra={"domain": step.object})
        if done:
            self._shared.look_at_host.kick()  # what is published has the edits, too
        return done
