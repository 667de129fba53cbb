"""The libvirt lane: a snapshot of the domains, then its steps (pins, USB devices, definitions), until none is left.

May wait as long as somebody's hook runs; nothing of the host waits for it.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import replace

import trio

from hostler.errors import HostFailed, HostlerError
from hostlerd.act.perform import is_gone, perform
from hostlerd.act.pins import WITHOUT_EFFECT
from hostlerd.model.domains import Snapshot
from hostlerd.model.plan import AttachUsb, DetachUsb, EditDefinition, Pin, Step
from hostlerd.observe.everything import look_at_affinity
from hostlerd.reconcile.claims import Claims
from hostlerd.reconcile.lasting_edits import LastingEdits
from hostlerd.reconcile.shared import Shared

log = logging.getLogger(__name__)

ROUNDS = 4
TRIES = 3
"""Of giving or taking one USB device. A try that fails has QEMU open the device and let go, and these are events, too:
without an end each would be the reason for the next. The same with pins that have no effect."""
OFTEN, WHILE = 10, 60.0
"""Times that what is in one USB port is given to a domain within so many seconds. There are devices that start anew,
with another number, whenever they are opened."""


class LibvirtLane:
    def __init__(self, shared: Shared, claims: Claims) -> None:
        self._shared, self._claims = shared, claims
        self._edits = LastingEdits(shared)
        self._failed: Counter[str] = Counter()
        self._given: dict[str, list[float]] = {}
        self._held_back = False
        self._told: set[str] = set()

    @property
    def look_again_after(self) -> float:
        """Seconds; no event tells that enough time has passed."""
        return min(WHILE / 2 if self._held_back else math.inf, self._edits.look_again_after)

    def try_again(self) -> None:
        """Also what failed, or was done, too often."""
        self._failed.clear()
        self._given.clear()

    async def one_pass(self) -> None:
        shared = self._shared
        self._held_back = False
        refused: set[str] = set()
        performed = False
        for _ in range(ROUNDS):
            if not await self._take_snapshot() and performed:
                shared.look_at_host.kick()  # libvirt shows what it showed before; the kernel does not
            await self._edits.settle(shared.snapshot)
            if shared.observed is None:
                return  # the host lane kicks this one when it has looked
            seen = shared.seen(shared.observed)
            # What was read before the last pins would have them set once more.
            plan = shared.decide(replace(seen, affinity=await look_at_affinity(shared.host, seen)))
            for record in plan.confirmed:
                shared.journal.record(record)
            steps = tuple(step for step in plan.of("libvirt") if not isinstance(step, EditDefinition))
            keys = {_key(step) for step in steps}
            self._failed = Counter({key: times for key, times in self._failed.items() if key in keys})
            performed = await self._perform(steps, refused)
            if not (await self._edits.make(plan) or performed):
                break

    async def _take_snapshot(self) -> bool:
        """True if something is another than before: then the host lane is told."""
        shared, before = self._shared, self._shared.snapshot
        taken = shared.next_count()
        try:
            running = await shared.host.hypervisor.running()
            inactive = await shared.host.hypervisor.inactive()
            version = await shared.host.hypervisor.version()
        except HostlerError:
            self._edits.forget()
            shared.snapshot = replace(shared.snapshot, known=False)
            raise
        running = tuple(domain for domain in running if shared.released.get(domain.uuid, 0) < taken)
        shared.snapshot = Snapshot(
            known=True, taken=taken, running=running, inactive=inactive, libvirt=version
        )
        shared.released = {uuid: when for uuid, when in shared.released.items() if when >= taken}
        shared.guests.keep(running)
        self._end_claims(taken, frozenset(domain.uuid for domain in running))
        changed = (before.known, before.running, before.inactive) != (True, running, inactive)
        if changed:
            shared.look_at_host.kick()
        return changed

    def _end_claims(self, taken: int, active: frozenset[str]) -> None:
        """Those libvirt does not know as active, if it was asked after they were made."""
        for claim in tuple(self._shared.journal.ledger.claims.values()):
            if claim.since < taken and claim.uuid not in active and claim.uuid not in self._claims.waiting():
                self._claims.end(claim.uuid, "does not run any more")

    async def _perform(self, steps: tuple[Step, ...], refused: set[str]) -> bool:
        """True if any was done. Nothing is degraded for a refusal: the domain may be on its way out."""
        done = False
        for step in steps:
            key = _key(step)
            if self._shared.awake.still:
                break
            if key in refused or self._failed[key] >= TRIES or self._too_often(step):
                continue
            try:
                await perform(self._shared.host, self._shared.journal, step)
            except HostFailed as error:
                refused.add(key)
                self._refused(step, error)
            else:
                done = True
                self._shared.tell_step(step)
                log.info("%s %s: %s", step.kind, step.object, step.after or "none")
        return done

    def _too_often(self, step: Step) -> bool:
        if not isinstance(step, AttachUsb):
            return False
        place, now = f"{step.uuid} {step.device.port}", trio.current_time()
        times = self._given.setdefault(place, [])
        times[:] = [moment for moment in times if moment > now - WHILE]
        if len(times) < OFTEN:
            times.append(now)
            self._told.discard(place)
            return False
        self._held_back = True
        if place not in self._told:
            self._told.add(place)
            text = f"comes and goes: {OFTEN} times in {WHILE:.0f} s; {step.after} gets it again in a while"
            log.warning("%s %s", step.object, text, extra={"device": step.object})
            self._shared.tell("failed", step.object, text)
        return True

    def _refused(self, step: Step, error: HostFailed) -> None:
        if is_gone(self._shared.host, step):
            log.info("%s: %s", step.object, error.sentence, extra={"device": step.object})
            return
        text = error.sentence
        usb = isinstance(step, AttachUsb | DetachUsb)
        if usb or WITHOUT_EFFECT in error.data:
            self._failed[_key(step)] += 1
            if self._failed[_key(step)] == TRIES:
                again = "it is plugged in again, or " if usb else ""
                text += f"; not tried again until {again}the policy is reloaded"
        log.warning("%s: %s", step.object, text, extra={"domain": step.object})
        self._shared.tell("failed", step.object, text)


def _key(step: Step) -> str:
    """What a refusal is about: all pins of a domain; a USB device from being plugged in to being pulled out."""
    match step:
        case Pin():
            return step.uuid
        case AttachUsb() | DetachUsb():
            return f"{step.kind} {step.uuid} {step.device.mark}"
        case _:
            return step.object
