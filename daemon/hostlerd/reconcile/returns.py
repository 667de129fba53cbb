"""Writes that did not return in time and do so after all: whoever held the device has let go.

What tells is the end of the writer process, of this daemon's or an earlier one's. Then nobody knows what the write did,
and nobody has to: the object is trusted and looked at again, and the plan says what becomes of it.
"""

from __future__ import annotations

import logging
import time

import trio

from hostlerd.model.ledger import Outstanding
from hostlerd.reconcile.shared import Shared

log = logging.getLogger(__name__)


class Returns:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._watched: set[int] = set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                ledger = self._shared.journal.ledger
                for step in ledger.outstanding.values():
                    trouble = ledger.troubles.get(step.object)
                    if trouble is not None and trouble.wedged and step.number not in self._watched:
                        self._watched.add(step.number)
                        nursery.start_soon(self._wait, step)
                await self._shared.wedged.wait()

    async def _wait(self, step: Outstanding) -> None:
        await self._shared.host.writer.wait_ended(step.writer)
        self._watched.discard(step.number)
        trouble = self._shared.journal.ledger.troubles.get(step.object)
        if self._shared.journal.returned(step.number) and trouble is not None:
            text = f"the {step.kind} has returned, {time.time() - trouble.since:.0f} s after it was given up"
            log.warning("%s: %s", step.object, text, extra={"device": step.object})
            self._shared.tell("returned", step.object, text)
        self._shared.look_at_host.kick()
        self._shared.look_at_domains.kick()
