"""The libvirt lane: a snapshot of the domains, then the pins that differ, until none does.

May wait as long as somebody's hook runs; nothing of the host waits for it.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from hostler.errors import HostFailed, HostlerError
from hostlerd.act.perform import perform
from hostlerd.model.domains import Snapshot
from hostlerd.model.plan import Pin
from hostlerd.reconcile.claims import Claims
from hostlerd.reconcile.shared import Shared

log = logging.getLogger(__name__)

ROUNDS = 4


class LibvirtLane:
    def __init__(self, shared: Shared, claims: Claims) -> None:
        self._shared, self._claims = shared, claims

    async def one_pass(self) -> None:
        shared = self._shared
        for _ in range(ROUNDS):
            await self._take_snapshot()
            if shared.observed is None:
                return  # the host lane kicks this one when it has looked
            plan = shared.decide(shared.seen(shared.observed))
            if not await self._pin([step for step in plan.steps if isinstance(step, Pin)]):
                break

    async def _take_snapshot(self) -> None:
        shared, before = self._shared, self._shared.snapshot
        taken = shared.next_count()
        try:
            running = await shared.host.hypervisor.running()
            inactive = await shared.host.hypervisor.inactive()
            version = await shared.host.hypervisor.version()
        except HostlerError:
            shared.snapshot = replace(shared.snapshot, known=False)
            raise
        running = tuple(domain for domain in running if shared.released.get(domain.uuid, 0) < taken)
        shared.snapshot = Snapshot(
            known=True, taken=taken, running=running, inactive=inactive, libvirt=version
        )
        shared.released = {uuid: when for uuid, when in shared.released.items() if when >= taken}
        self._end_claims(taken, frozenset(domain.uuid for domain in running))
        if (before.known, before.running, before.inactive) != (True, running, inactive):
            shared.look_at_host.kick()

    def _end_claims(self, taken: int, active: frozenset[str]) -> None:
        """Those libvirt does not know as active, if it was asked after they were made."""
        for claim in tuple(self._shared.journal.ledger.claims.values()):
            if claim.since < taken and claim.uuid not in active and claim.uuid not in self._claims.waiting():
                self._claims.end(claim.uuid, "does not run any more")

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
