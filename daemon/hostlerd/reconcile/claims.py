"""Who asked for what: a claim from its hook's XML until the domain is gone, and who waits for it to be prepared.

A claim gets everything or is ended again; ending it is all there is to putting back (see model/ledger).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import trio

from hostler.errors import Claimed, HostlerError, InUse, Refused, TimedOut
from hostler.wire import HOOK_DEADLINE, PREPARE_LIMIT
from hostlerd.model.domains import Definition
from hostlerd.model.ledger import Claim
from hostlerd.model.plan import AllowCpus, Plan, Refusal
from hostlerd.reconcile.shared import Shared

log = logging.getLogger(__name__)

UNDO_LIMIT = 8.0
"""Seconds a released domain waits until all is back, before the answer goes out anyway: its hook waits 10 s."""
ANSWER_LIMIT = HOOK_DEADLINE - 1.5
"""Seconds in which one that is refused gets its answer, whatever is back by then: what else would the hook say?"""


@dataclass(slots=True)
class Waiter:
    """Somebody who waits for a claim to be prepared. `error`: why it will not be. `touched`: something was changed
    while they waited, perhaps for them.
    """

    done: trio.Event = field(default_factory=trio.Event)
    touched: bool = False
    error: HostlerError | None = None

    def fail(self, error: HostlerError) -> None:
        if not self.done.is_set():
            self.error = error
            self.done.set()


def _pins(definition: Definition) -> tuple[object, ...]:
    return definition.vcpu_pins, definition.emulator_pins, definition.iothread_pins


class Claims:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._waiters: dict[str, Waiter] = {}
        self._next_pass = trio.Event()
        self._begun: list[trio.Event] = []

    # Asked by the faces

    async def prepare(self, definition: Definition, xml: str) -> list[str]:
        """Take everything the domain needs, or put everything back and raise. Cancelling it rolls back."""
        uuid, name = definition.uuid, definition.name

        def begin() -> None:
            since = self._shared.next_count()
            saved = any(
                d.uuid == uuid and _pins(d) != _pins(definition) for d in self._shared.snapshot.inactive
            )
            self._shared.journal.claim(Claim(definition=definition, since=since, xml=xml, saved=saved))
            self._shared.tell("claim", name, "is about to start")

        await self.hold(uuid, name, begin)
        return sorted(address for address, owner in self._shared.plan.owners.items() if owner.who == name)

    async def hold(self, uuid: str, name: str, begin: Callable[[], None]) -> None:
        """Journal a claim by `begin` and wait until all that it wants is there."""
        if uuid in self._waiters:
            raise Claimed(f"{name} is being prepared already", data={"object": uuid, "holder": name})
        waiter = self._waiters[uuid] = Waiter()
        began = trio.current_time()
        answer_by = began + ANSWER_LIMIT
        try:
            begin()
            await self._wait_prepared(waiter, name)
        except HostlerError:
            if waiter.touched:
                await self._give_back(uuid, name, until=answer_by)
            self.end(uuid, "is gone")
            raise
        except trio.Cancelled:
            self.end(uuid, "was given up by its caller")
            raise
        finally:
            del self._waiters[uuid]
            log.info("%s: answered after %.3f s", name, trio.current_time() - began, extra={"domain": name})

    async def release(self, uuid: str, name: str) -> None:
        """The domain is gone: end its claim and wait, within a limit, until what it had is back."""
        self._shared.forget_domain(uuid)
        self._shared.hurry()
        await self._give_back(uuid, name, until=trio.current_time() + UNDO_LIMIT)
        self._shared.look_at_domains.kick()

    async def _wait_prepared(self, waiter: Waiter, name: str) -> None:
        self._shared.hurry()
        with trio.move_on_after(PREPARE_LIMIT):
            await waiter.done.wait()
        if not waiter.done.is_set():
            raise TimedOut(
                f"{name} could not be prepared within {PREPARE_LIMIT:.0f} s",
                remedy="`hostler status` says what it waits for",
            )
        if waiter.error is not None:
            raise waiter.error

    async def _give_back(self, uuid: str, name: str, *, until: float) -> None:
        self.end(uuid, "is gone")
        with trio.move_on_at(until) as scope:
            await self._next_pass.wait()
        if scope.cancelled_caught:
            log.warning("what %s had is not back yet", name, extra={"domain": name})

    # Told by the lanes

    def end(self, uuid: str, text: str) -> None:
        claim = self._shared.journal.ledger.claimant(uuid)
        if claim is not None:
            self._shared.journal.unclaim(uuid)
            self._shared.tell("claim", claim.name, text)
        self._shared.look_at_host.kick()

    def touch(self) -> None:
        for waiter in self._waiters.values():
            waiter.touched = True

    def waiting(self) -> frozenset[str]:
        return frozenset(self._waiters)

    def begin_pass(self) -> None:
        self._begun.append(self._next_pass)
        self._next_pass = trio.Event()

    def end_pass(self) -> None:
        """What was asked before this pass began is done. Also what was asked before one that failed since."""
        for event in self._begun:
            event.set()
        self._begun.clear()

    def fail(self, uuid: str, error: HostlerError) -> None:
        claim = self._shared.journal.ledger.claimant(uuid)
        self._shared.journal.unclaim(uuid)
        if claim is not None:
            log.warning("%s: %s", claim.name, error.sentence, extra={"domain": claim.name})
            self._shared.tell("refused", claim.name, error.sentence)
        waiter = self._waiters.get(uuid)
        if waiter is not None:
            waiter.fail(error)

    def fail_all(self, error: HostlerError) -> None:
        """A pass failed: nobody is prepared by it."""
        for waiter in self._waiters.values():
            waiter.fail(error)

    def refuse(self, plan: Plan) -> bool:
        """Fail the preparations the plan refuses. True if a claim ended by it."""
        by_claim: dict[str, list[Refusal]] = {}
        for refusal in plan.refusals:
            if refusal.claim is not None:
                by_claim.setdefault(refusal.claim, []).append(refusal)
        for uuid, refusals in by_claim.items():
            self.fail(uuid, _as_error(refusals))
        return bool(by_claim)

    def satisfy(self, plan: Plan, asked: frozenset[str]) -> None:
        """Of those that had `asked` when the plan's host was looked at, the ones with nothing left to do."""
        if plan.questions or any(isinstance(step, AllowCpus) for step in plan.steps):
            return
        ledger = self._shared.journal.ledger
        for uuid in asked & self._waiters.keys():
            waiter, claim = self._waiters[uuid], ledger.claimant(uuid)
            busy = uuid in plan.waiting or any(step.claim == uuid for step in plan.steps)
            if waiter.done.is_set() or claim is None or busy:
                continue
            self._shared.plan = plan
            if isinstance(claim, Claim):
                self._shared.journal.claim(replace(claim, prepared=True))
            elif not claim.given:
                continue
            waiter.done.set()


def _as_error(refusals: list[Refusal]) -> HostlerError:
    """One sentence for all the reasons a start is refused; the remedies follow."""
    reason = "; ".join(r.reason for r in refusals)
    remedy = "; ".join(dict.fromkeys(r.remedy for r in refusals))
    if all(r.in_use for r in refusals):
        return InUse(
            reason,
            remedy=remedy,
            data={"object": refusals[0].object, "holders": [r.reason for r in refusals]},
        )
    holder = next((r.claimed_by for r in refusals if r.claimed_by is not None), None)
    if holder is not None:
        return Claimed(reason, remedy=remedy, data={"object": refusals[0].object, "holder": holder})
    return Refused(reason, remedy=remedy, data={"objects": [r.object for r in refusals]})
