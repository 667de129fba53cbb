"""The host lane: devices, slices and the udev rule, in rounds of observing and acting until nothing is left to do.

Never calls libvirt. A step that fails for a claim ends that claim, and the next round puts back what it had; one that
fails for anybody else degrades its object, unless that is gone: going away is no error.
"""

from __future__ import annotations

import logging
from collections import Counter

import trio

from hostler.errors import Degraded, HostlerError, InUse, Unsupported, Wedged
from hostlerd.act.perform import is_gone, perform
from hostlerd.decide.ownership import VFIO
from hostlerd.model.ledger import HugepagesRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import (
    CheckAlive,
    LoadModule,
    MoveThread,
    Override,
    Plan,
    Probe,
    ResizeBar,
    SetAttribute,
    SetPartition,
    Step,
    Stop,
    TellBalancer,
    Terminate,
    Unbind,
    UnloadModule,
)
from hostlerd.observe.awake import answering
from hostlerd.reconcile.claims import Claims
from hostlerd.reconcile.looks import Looks
from hostlerd.reconcile.programs import Programs
from hostlerd.reconcile.rivals import Rivals
from hostlerd.reconcile.shared import Shared

log = logging.getLogger(__name__)

ROUNDS = 10
"""Of one pass: what is in the way goes first, then devices move, then what was stopped for them comes back. More are
needed where something else changes the host as fast as we do, or where claim follows claim."""
DRIVERCTL = "/etc/driverctl.d"
"""A file for each device that driverctl puts on a driver (driverctl(8))."""
OFTEN = 3
"""Times that the same step was taken in one pass: it does not last."""


class HostLane:
    def __init__(self, shared: Shared, claims: Claims, programs: Programs) -> None:
        self._shared, self._claims, self._programs = shared, claims, programs
        self.passes = 0
        self.busy = False
        self._looks = Looks()
        self._wanted_of_libvirt = False
        self._rivals = Rivals()

    @property
    def look_again_after(self) -> float:
        """Seconds. Nothing tells when a process lets go of a device, which as a rule it is about to do."""
        now = trio.current_time()
        return min(
            self._looks.next_due(now),
            self._rivals.next_due(now),
            self._shared.late.next_due(now),
            self._shared.lending.look_again_after,
        )

    async def one_pass(self) -> None:
        self.passes += 1
        self._claims.begin_pass()
        self.busy = True
        try:
            plan = await self._rounds()
        finally:
            self.busy = False
        wanted = bool(plan.of("libvirt"))
        if wanted or self._wanted_of_libvirt:
            self._shared.look_at_domains.kick()  # also when that is not wanted any more: it may be waiting to do it
        self._wanted_of_libvirt = wanted
        await self._shared.memory.learn(plan.learned)
        if not self._shared.awake.still:
            self._claims.end_pass()
        await self._shared.host.writer.aclose()

    async def _rounds(self) -> Plan:
        shared, rounds = self._shared, 0
        again: Counter[tuple[str, str, str | None]] = Counter()
        while True:
            rounds += 1
            asked = self._claims.waiting()
            observed, plan = await shared.look_and_decide()
            if await self._cards_changed(observed, plan) or shared.tries_partitions_anew(observed, plan):
                continue
            shared.forgive_gone(observed)
            for key in plan.settled:
                if key in shared.journal.ledger.programs:
                    self._claims.end(key, "has ended")
                shared.journal.settle(key)
            for record in plan.counted:
                shared.journal.record(record)
                self._tell_if_too_few(record)
            refused = self._claims.refuse(plan)
            self._report_rivals(observed, plan)
            steps = self._rivals.hold_back(plan.of("host"), trio.current_time())
            if steps:
                self._claims.touch()
            shared.awake.because(plan.awake)
            await self._perform(steps)
            if shared.awake.still:
                break  # nobody is prepared by half a pass; all is looked at anew when the host is awake
            again.update((step.object, step.kind, step.after) for step in steps)
            self._claims.satisfy(plan, asked)
            if not steps and not refused and not plan.settled:
                break
            if rounds == ROUNDS:
                self._conflict({obj for (obj, _, _), times in again.items() if times >= OFTEN})
                break
        self._programs.forget()
        waiting = [*observed.kept, *(r.object for r in plan.refusals if r.in_use and r.claim is None)]
        self._looks.found(waiting, trio.current_time())
        if not plan.tuned.isolated:
            shared.immovable.clear()  # the next time it may be otherwise
        shared.late.found(plan.tuned.late, trio.current_time())
        self._rivals.seen(plan, observed.functions, shared.journal.ledger.devices)
        shared.observed = shared.seen(observed)
        shared.plan = plan
        shared.lending.seen(shared.observed, plan)
        shared.publish(shared.observed, plan, self.passes)
        return plan

    async def _cards_changed(self, observed: Observed, plan: Plan) -> bool:
        """Ask the cards after the host slept; forget what was found once a domain has let go. True: decide anew."""
        awake, before = self._shared.awake, self._shared.awake.silent
        had = {a for a, owner in plan.owners.items() if owner.kind == "domain"}
        awake.silent &= had
        if awake.unchecked:
            awake.unchecked = False
            ours = [a for a in plan.owners if a in observed.functions and observed.functions[a].on_vfio]
            answers = await answering(self._shared.host, [a for a in ours if not observed.untouchable(a)])
            silent = frozenset(address for address, answered in answers.items() if not answered)
            awake.silent = silent & had
            for address in sorted(silent):
                log.warning("%s does not answer since the host slept", address, extra={"device": address})
                self._shared.tell("silent", address, "does not answer since the host slept")
        return awake.silent != before

    async def _perform(self, steps: tuple[Step, ...]) -> None:
        """One after the other; but what has to get out of the way goes side by side, as each may take its time."""
        failed: set[str] = set()
        unwritable: list[HostlerError] = []

        async def clear(step: Step) -> None:
            try:
                await self._perform_one(step, failed)
            except HostlerError as error:
                unwritable.append(error)

        async with trio.open_nursery() as together:
            for step in steps:
                if isinstance(step, Stop | Terminate):
                    together.start_soon(clear, step)
        if unwritable:
            raise unwritable[0]
        for step in steps:
            if not isinstance(step, Stop | Terminate):
                await self._perform_one(step, failed)

    def _is_off(self, step: Step, failed: set[str]) -> bool:
        """What went wrong in this round, or meanwhile, leaves nothing to do for this step."""
        ledger = self._shared.journal.ledger
        return (
            self._shared.awake.still
            or step.claim in failed
            or step.object in failed
            or ledger.untouchable(step.object)
            # A file of a device that may be stuck by now.
            or bool(failed.intersection(step.object.split("/")))
            # What follows the loading of its driver needs it; the next round decides anew.
            or (isinstance(step, Override | Unbind | Probe) and (VFIO in failed or step.after in failed))
            or (isinstance(step, ResizeBar) and step.address in failed)
            # Given up meanwhile.
            or (step.claim is not None and ledger.claimant(step.claim) is None)
        )

    async def _perform_one(self, step: Step, failed: set[str]) -> None:
        """Raises only what says that the journal cannot be written."""
        journal = self._shared.journal
        if self._is_off(step, failed):
            return
        try:
            # A step is never cut in the middle; each has limits of its own.
            with trio.CancelScope(shield=True):
                await perform(self._shared.host, journal, step)
        except HostlerError as error:
            if journal.is_unwritable(error):
                raise  # nothing is wrong with the object; the pass is tried again
            failed.update({step.object, *([step.driver] if isinstance(step, LoadModule) else [])} - {""})
            self._failed(step, error, failed)
        else:
            self._rivals.placed(step)
            self._shared.tell_step(step)
            log.info("%s %s: %s", step.kind, step.object, step.after or "none", extra={"device": step.object})

    def _failed(self, step: Step, error: HostlerError, failed: set[str]) -> None:
        if isinstance(error, Unsupported) and isinstance(step, SetAttribute | SetPartition | MoveThread):
            back = isinstance(step, SetAttribute) and step.record is None
            self._shared.immovable.add(f"{step.object} back" if back else step.object)
            log.log(logging.WARNING if isinstance(step, SetPartition) else logging.DEBUG, "%s", error.message)
            return
        log.warning("%s %s: %s", step.kind, step.object, error.sentence, extra={"device": step.object})
        if isinstance(step, TellBalancer):
            self._shared.immovable.add(f"{step.object} {step.after or ''}")
            return
        gone = is_gone(self._shared.host, step)
        # That somebody has it open is no fault of the device's.
        harmless = gone or isinstance(error, InUse)
        if isinstance(step, CheckAlive) and step.recoverable:
            failed.update(step.together)
            return
        if isinstance(error, Wedged) or ((step.claim is None or step.optional) and not harmless):
            self._shared.degrade(step.object, error)
            for address in step.addresses if isinstance(step, UnloadModule) else ():
                self._shared.degrade(address, error)
                failed.add(address)
        if step.claim is not None and (not step.optional or isinstance(error, Wedged)):
            failed.add(step.claim)
            self._claims.fail(step.claim, error)

    def _tell_if_too_few(self, record: HugepagesRecord) -> None:
        if record.spent:
            text = f"the kernel gave {record.added} of {record.asked} pages for {record.name}"
            log.info("%s: %s", record.path, text, extra={"domain": record.name})
            self._shared.tell("hugepages", record.path, text)

    def _report_rivals(self, observed: Observed, plan: Plan) -> None:
        for address, times in self._rivals.watch(plan, trio.current_time()).items():
            driver = observed.functions[address].driver or observed.functions[address].override or "no driver"
            by = " by driverctl" if self._shared.host.files.exists(f"{DRIVERCTL}/{address}") else ""
            remedy = f"find out what rebinds it{by and f' (`driverctl unset-override {address}`)'}, "
            self._shared.degrade(
                address,
                Degraded(
                    f"{address} was taken {times} times within a minute and put on {driver}{by}",
                    remedy=f"{remedy}then `hostler retry {address}`",
                ),
            )

    def _conflict(self, objects: set[str]) -> None:
        """What needed the same step again and again is being changed by somebody else. The rest gets another pass."""
        for obj in sorted(objects):
            if obj not in self._shared.journal.ledger.troubles:
                self._shared.degrade(
                    obj, Degraded(f"{obj} does not stay as it is put: something else changes it")
                )
        self._shared.look_at_host.kick()
