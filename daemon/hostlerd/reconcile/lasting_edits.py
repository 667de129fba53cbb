"""The part of the libvirt lane that edits definitions: what a kill cut is settled, the fallback made and ended, and
where a domain begins written (`write_config`).

A definition is edited only when the wish for it has lasted: a card that is rescanned, or a domain that is restarted,
comes back in a moment. While others start and stop, the place that is planned for one that is off changes with each of
them, and each time the wait begins anew: a burst is one edit.
"""

from __future__ import annotations

import logging
import math

import trio

from hostler.errors import BadInput, HostFailed, Refused
from hostlerd.act.definitions import Wish
from hostlerd.model.domains import Snapshot
from hostlerd.model.edits import PINS, Edits, in_force, written_pins
from hostlerd.model.plan import EditDefinition, Plan
from hostlerd.reconcile.shared import Shared

log = logging.getLogger(__name__)

LASTING = 3.0
"""Seconds a definition must have been wanted otherwise before it is edited."""


Key = tuple[str, str, str | None]
"""Of a wish: domain, what it is about, what it is to be."""


class LastingEdits:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._since: dict[Key, float] = {}
        self._futile: set[Key] = set()
        self._unseen: frozenset[str] = frozenset()

    @property
    def look_again_after(self) -> float:
        """Seconds until an edit that is wanted has been so for long enough."""
        if not self._since:
            return math.inf
        return max(0.0, min(self._since.values()) + LASTING - trio.current_time())

    def forget(self) -> None:
        """libvirt is away: what was wanted begins anew with what it says next."""
        self._since.clear()

    async def settle(self, snapshot: Snapshot) -> None:
        """What was begun before a kill, what somebody took back by hand, what is defined no more.

        A domain that starts between libvirt's two answers is in neither: one that is missing counts at the second look.
        """
        definitions = self._shared.definitions
        await definitions.wait_loaded()
        before = definitions.edits
        inactive = [domain.uuid for domain in snapshot.inactive]
        unseen = frozenset(before).difference(inactive, (d.uuid for d in snapshot.running))
        try:
            for uuid in unseen & self._unseen:
                await definitions.forget(uuid)
            await definitions.settle(inactive)
        except (HostFailed, BadInput) as error:
            log.warning(
                "%s", error.sentence
            )  # undefined in this moment, or a full disk: the next pass tries again
        self._unseen = unseen
        if definitions.edits is not before:
            self._tell_whose(before, snapshot)
            self._shared.look_at_host.kick()  # what is published has the edits, too

    def _tell_whose(self, before: Edits, snapshot: Snapshot) -> None:
        """Pins that were hostler's and are somebody's now, because that one changed or removed them."""
        for domain in snapshot.inactive:
            was = in_force(before, domain.uuid, PINS)
            now = written_pins(self._shared.definitions.edits, domain.uuid)
            if was is not None and was.done and was.pins != now:
                text = f"{was.pins} -> {now}: the rest was changed by somebody, whose it is now"
                self._shared.tell("definition", domain.name, text)

    async def make(self, plan: Plan) -> bool:
        """Make the edits that have been wanted for long enough. True if any was made."""
        steps = [step for step in plan.steps if isinstance(step, EditDefinition)]
        now, done = trio.current_time(), False
        self._futile &= {_key(step) for step in steps}
        steps = [step for step in steps if _key(step) not in self._futile]
        self._since = {key: self._since.get(key, now) for step in steps for key in [_key(step)]}
        for step in steps:
            key = _key(step)
            if now - self._since[key] < LASTING:
                continue
            del self._since[key]
            try:
                await self._make(step)
            except Refused as error:
                self._futile.add(key)  # somebody was faster; not again before something else is wanted
                log.info("%s: %s", step.object, error.sentence)
            except (HostFailed, BadInput) as error:
                log.warning("%s: %s", step.object, error.sentence, extra={"domain": step.object})
                self._shared.degrade(step.object, error)
            else:
                done = True
                self._shared.tell_step(step)
                log.info("definition of %s: %s", step.object, step.after, extra={"domain": step.object})
        if done:
            self._shared.look_at_host.kick()
        return done

    async def _make(self, step: EditDefinition) -> None:
        definitions = self._shared.definitions
        if step.change is None:
            await definitions.take_back(step.uuid, step.about)
            return
        wish = Wish(
            uuid=step.uuid,
            name=step.object,
            change=step.change,
            by=step.by,
            before=step.before or "",
            after=step.after or "",
            lacks=step.lacks,
        )
        outcome = await definitions.edit(wish)
        if not outcome.changed and step.about == PINS:
            raise Refused(f"the definition of {step.object} has pins and numatune of its owner's by now")
        if not outcome.changed:
            raise HostFailed(f"nothing in the definition of {step.object} is its GPU")


def _key(step: EditDefinition) -> Key:
    return step.uuid, step.about, step.after
