"""The loop: observe, decide, act, observe again, publish. In two lanes.

The *host lane* moves devices and slices and never waits for libvirt, because libvirt may be waiting for it: while a
hook
runs, every call on a domain blocks. The *libvirt lane* takes snapshots of the domains and sets pins. Both ask the same
`decide`; each performs its own steps of the plan. What wakes a lane says only "look again".

A pass is one of the daemon's two catch-alls: a fault in it is logged with its traceback, told to whoever waits for a
preparation, and tried again after a pause.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import trio

from hostler.errors import (
    Claimed,
    Degraded,
    HostFailed,
    HostlerError,
    Internal,
    Refused,
    TimedOut,
    Unreachable,
    Wedged,
)
from hostler.wire import PREPARE_LIMIT
from hostlerd.act.journal import Journal
from hostlerd.act.perform import perform
from hostlerd.decide import decide
from hostlerd.host import Host
from hostlerd.log import about
from hostlerd.model.domains import Definition, Snapshot
from hostlerd.model.ledger import Claim, Trouble
from hostlerd.model.observed import Observed
from hostlerd.model.plan import AllowCpus, Plan, Refusal, Step
from hostlerd.model.settings import Settings

log = logging.getLogger(__name__)

ROUNDS = 6
"""Observe-and-act rounds of one pass; a host that needs more is fighting us."""
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a pass that failed is tried again."""
UNDO_LIMIT = 20.0
"""Seconds a refused preparation waits until all is back, before the answer goes out anyway."""

Tell = Callable[[str, str, str], None]
"""(kind, object, text): one line of `hostler watch`."""


class Observe(Protocol):
    async def __call__(self, journal: Journal, snapshot: Snapshot) -> Observed: ...


class Latch:
    """Any number of kicks before the loop wakes is one wake-up."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def kick(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


@dataclass(slots=True)
class Waiter:
    """Somebody who waits for a claim to be prepared. `error`: why it will not be."""

    done: trio.Event = field(default_factory=trio.Event)
    error: HostlerError | None = None

    def fail(self, error: HostlerError) -> None:
        if not self.done.is_set():
            self.error = error
            self.done.set()


class Reconciler:
    """`tell` announces; `publish` gets each finished pass."""

    def __init__(
        self,
        *,
        host: Host,
        journal: Journal,
        settings: Settings,
        observe: Observe,
        tell: Tell,
        publish: Callable[[Observed, Plan, int], Any],
    ) -> None:
        self._host, self._journal, self.settings = host, journal, settings
        self._observe, self._tell, self._publish = observe, tell, publish
        self.look_at_host, self.look_at_domains = Latch(), Latch()
        self.passes = 0
        self._count = max((c.since for c in journal.ledger.claims.values()), default=0)
        self._snapshot = Snapshot()
        self._released: dict[str, int] = {}
        self._waiters: dict[str, Waiter] = {}
        self._observed: Observed | None = None
        self._plan = Plan()
        self._in_pass = False
        self._next_pass = trio.Event()

    # Claims

    async def prepare(self, definition: Definition, xml: str) -> list[str]:
        """Take everything the domain needs, or put everything back and raise. Cancelling it rolls back."""
        uuid = definition.uuid
        if uuid in self._waiters:
            raise Claimed(
                f"{definition.name} is being prepared already",
                data={"object": uuid, "holder": definition.name},
            )
        waiter = self._waiters[uuid] = Waiter()
        try:
            self._journal.claim(Claim(definition=definition, since=self._next(), xml=xml))
            self._tell("claim", definition.name, "is about to start")
            self.look_at_host.kick()
            with trio.move_on_after(PREPARE_LIMIT):
                await waiter.done.wait()
            if not waiter.done.is_set():
                raise TimedOut(
                    f"{definition.name} could not be prepared within {PREPARE_LIMIT:.0f} s",
                    remedy="`hostler status` says what it waits for",
                )
            if waiter.error is not None:
                raise waiter.error
        except HostlerError:
            await self._give_back(uuid, definition.name, UNDO_LIMIT)
            raise
        except trio.Cancelled:
            self._end(uuid, definition.name, "was given up by its caller")
            raise
        finally:
            del self._waiters[uuid]
        return sorted(a for a, owner in self._plan.owners.items() if owner.who == definition.name)

    async def release(self, uuid: str, name: str) -> None:
        """The domain is gone: end its claim and wait, within a limit, until what it had is back."""
        self._released[uuid] = self._next()
        self._forget(uuid)
        await self._give_back(uuid, name, UNDO_LIMIT)
        self.look_at_domains.kick()

    async def _give_back(self, uuid: str, name: str, limit: float) -> None:
        self._end(uuid, name, "is gone")
        with trio.move_on_after(limit):
            await self.wait_settled()

    def _end(self, uuid: str, name: str, text: str) -> None:
        if uuid in self._journal.ledger.claims:
            self._journal.unclaim(uuid)
            self._tell("claim", name, text)
        self.look_at_host.kick()

    def _forget(self, uuid: str) -> None:
        """A domain that released its devices does not run, whatever an older snapshot says."""
        running = tuple(d for d in self._snapshot.running if d.uuid != uuid)
        self._snapshot = replace(self._snapshot, running=running)

    def _next(self) -> int:
        self._count += 1
        return self._count

    async def wait_settled(self) -> None:
        """Until a pass of the host lane that began after this call has ended."""
        self.look_at_host.kick()
        await self._next_pass.wait()

    # Asked from outside

    @property
    def busy(self) -> bool:
        """A pass is under way."""
        return self._in_pass

    async def what_now(self) -> Plan:
        """The plan a pass would perform at this moment."""
        return self._plan_of(await self._observe(self._journal, self._snapshot))

    async def what_if(self, definition: Definition) -> Plan:
        """The plan if this domain were started."""
        observed = await self._observe(self._journal, self._snapshot)
        claims = {
            **observed.ledger.claims,
            definition.uuid: Claim(definition=definition, since=self._count + 1),
        }
        return self._plan_of(replace(observed, ledger=replace(observed.ledger, claims=claims)))

    # Told from outside

    def apply(self, settings: Settings) -> None:
        self.settings = settings
        self.look_at_host.kick()
        self.look_at_domains.kick()

    def retry(self, obj: str) -> bool:
        """Trust a degraded object again. False if it is not degraded."""
        known = obj in self._journal.ledger.troubles
        if known:
            self._journal.forgive(obj)
            self._tell("retry", obj, "is trusted again")
            self.look_at_host.kick()
            self.look_at_domains.kick()
        return known

    # The host lane

    async def run_host(self) -> None:
        await self._run(self.look_at_host, self._host_pass, self._fail_all)

    async def run_domains(self) -> None:
        await self._run(self.look_at_domains, self._domains_pass, lambda _: None)

    async def _run(
        self, latch: Latch, one_pass: Callable[[], Awaitable[None]], failed: Callable[[HostlerError], None]
    ) -> None:
        failures = 0
        while True:
            await latch.wait()
            try:
                with about(pass_=self.passes + 1):
                    await one_pass()
                failures = 0
                continue
            except Unreachable as error:
                log.info("%s", error)  # libvirt's source kicks again when it is back
                continue
            except HostlerError as error:
                log.warning("%s", error.sentence)
                failed(error)
            except Exception as error:
                log.exception("a pass failed")
                failed(Internal(f"a pass failed: {error!r}", remedy="the journal has the details"))
            await trio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
            failures += 1
            latch.kick()

    def _fail_all(self, error: HostlerError) -> None:
        for waiter in self._waiters.values():
            waiter.fail(error)

    async def _host_pass(self) -> None:
        self.passes += 1
        ended, self._next_pass = self._next_pass, trio.Event()
        self._in_pass = True
        try:
            await self._rounds()
        finally:
            self._in_pass = False
        ended.set()

    async def _rounds(self) -> None:
        for _ in range(ROUNDS):
            waiting = set(self._waiters)
            observed = await self._observe(self._journal, self._snapshot)
            plan = self._plan_of(observed)
            for key in plan.settled:
                self._journal.settle(key)
            refused = self._refuse(plan)
            steps = plan.of("host")
            await self._perform(steps)
            self._satisfy(plan, waiting)
            if not steps and not refused and not plan.settled:
                break
        else:
            self._conflict(plan)
        self._observed = replace(observed, ledger=self._journal.ledger)
        self._plan = plan
        self._publish(self._observed, plan, self.passes)
        if plan.of("libvirt"):
            self.look_at_domains.kick()

    def _plan_of(self, observed: Observed) -> Plan:
        return decide(observed, self.settings)

    def _refuse(self, plan: Plan) -> bool:
        """Fail the preparations the plan refuses. True if a claim ended by it."""
        by_claim: dict[str, list[Refusal]] = {}
        for refusal in plan.refusals:
            if refusal.claim is not None:
                by_claim.setdefault(refusal.claim, []).append(refusal)
        for uuid, refusals in by_claim.items():
            self._fail(uuid, _as_error(refusals))
        return bool(by_claim)

    def _fail(self, uuid: str, error: HostlerError) -> None:
        claim = self._journal.ledger.claims.get(uuid)
        self._journal.unclaim(uuid)
        if claim is not None:
            log.warning("%s: %s", claim.name, error.sentence, extra={"domain": claim.name})
            self._tell("refused", claim.name, error.sentence)
        waiter = self._waiters.get(uuid)
        if waiter is not None:
            waiter.fail(error)

    async def _perform(self, steps: tuple[Step, ...]) -> None:
        failed: set[str] = set()
        for step in steps:
            ledger = self._journal.ledger
            if step.claim in failed or step.object in failed or ledger.untouchable(step.object):
                continue
            if step.claim is not None and step.claim not in ledger.claims:
                continue  # given up meanwhile
            try:
                # A step is never cut in the middle; each has limits of its own.
                with trio.CancelScope(shield=True):
                    await perform(self._host, self._journal, step)
                self._tell(step.kind, step.object, f"{step.before or '-'} -> {step.after or '-'}: {step.why}")
                log.info(
                    "%s %s: %s", step.kind, step.object, step.after or "none", extra={"device": step.object}
                )
            except HostlerError as error:
                failed.add(step.object)
                self._step_failed(step, error, failed)

    def _step_failed(self, step: Step, error: HostlerError, failed: set[str]) -> None:
        log.warning("%s %s: %s", step.kind, step.object, error.sentence, extra={"device": step.object})
        if isinstance(error, Wedged):
            self._degrade(step.object, error)
        if step.claim is not None:
            failed.add(step.claim)
            self._fail(step.claim, error)
        elif not isinstance(error, Wedged):
            self._degrade(step.object, error)

    def _degrade(self, obj: str, error: HostlerError) -> None:
        wedged = isinstance(error, Wedged)
        remedy = error.remedy or ("reboot" if wedged else f"mend it, then `hostler retry {obj}`")
        trouble = Trouble(object=obj, reason=error.message, remedy=remedy, since=time.time(), wedged=wedged)
        self._journal.trouble(trouble)
        self._tell("degraded", obj, f"{trouble.reason}; {trouble.remedy}")

    def _conflict(self, plan: Plan) -> None:
        for obj in dict.fromkeys(step.object for step in plan.of("host")):
            if obj not in self._journal.ledger.troubles:
                self._degrade(obj, Degraded(f"{obj} does not stay as it is put: something else changes it"))

    def _satisfy(self, plan: Plan, waiting: set[str]) -> None:
        """Preparations that were seen with nothing left to do, neither for their devices nor for the slices."""
        if any(isinstance(step, AllowCpus) for step in plan.steps):
            return
        for uuid in waiting & set(self._waiters) & set(self._journal.ledger.claims):
            if not any(step.claim == uuid for step in plan.steps):
                self._plan = plan
                self._journal.claim(replace(self._journal.ledger.claims[uuid], prepared=True))
                self._waiters[uuid].done.set()

    # The libvirt lane

    async def _domains_pass(self) -> None:
        for _ in range(ROUNDS):
            await self._take_snapshot()
            if self._observed is None:
                return  # the host lane kicks this one when it has looked
            observed = replace(self._observed, snapshot=self._snapshot, ledger=self._journal.ledger)
            plan = self._plan_of(observed)
            steps = plan.of("libvirt")
            if not steps or not await self._pin(steps):
                break

    async def _take_snapshot(self) -> None:
        taken, before = self._next(), self._snapshot
        try:
            running = await self._host.hypervisor.running()
            inactive = await self._host.hypervisor.inactive()
        except HostlerError:
            self._snapshot = replace(self._snapshot, known=False)
            raise
        running = tuple(d for d in running if self._released.get(d.uuid, 0) < taken)
        self._snapshot = Snapshot(known=True, taken=taken, running=running, inactive=inactive)
        active = {d.uuid for d in running}
        for claim in tuple(self._journal.ledger.claims.values()):
            # A claim is ended by libvirt only if the question was asked after it was made; a start that fails is told
            # by its release hook alone.
            if claim.since < taken and claim.uuid not in active and claim.uuid not in self._waiters:
                self._end(claim.uuid, claim.name, "does not run any more")
        self._released = {u: n for u, n in self._released.items() if n >= taken}
        if (before.known, before.running, before.inactive) != (True, running, inactive):
            self.look_at_host.kick()

    async def _pin(self, steps: tuple[Step, ...]) -> bool:
        """True if any was set. A domain that refuses pins is not degraded for it: it may be on its way out."""
        refused: set[str] = set()
        done = False
        for step in steps:
            uuid: str = getattr(step, "uuid", "")
            if uuid in refused:
                continue
            try:
                await perform(self._host, self._journal, step)
                done = True
                self._tell(step.kind, step.object, f"{step.before or '-'} -> {step.after or '-'}: {step.why}")
            except HostFailed as error:
                refused.add(uuid)
                log.warning("%s: %s", step.object, error.sentence, extra={"domain": step.object})
                self._tell("failed", step.object, error.sentence)
        return done


def _as_error(refusals: list[Refusal]) -> HostlerError:
    """One sentence for all the reasons a start is refused; the remedies follow."""
    reason = "; ".join(r.reason for r in refusals)
    remedy = "; ".join(dict.fromkeys(r.remedy for r in refusals))
    holder = next((r.claimed_by for r in refusals if r.claimed_by is not None), None)
    if holder is not None:
        return Claimed(reason, remedy=remedy, data={"object": refusals[0].object, "holder": holder})
    return Refused(reason, remedy=remedy, data={"objects": [r.object for r in refusals]})
