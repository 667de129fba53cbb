"""What is known of where running domains' memory is: looked at when a decision asks, and a few times after.

Nobody waits for it: reading it may take seconds, or hang with the domain it is about (observe/guest_memory), and the
answer that a decision gets at once is what is known by now. Memory that VFIO has pinned stays where it is: as soon as
all of it is there, one look was enough. Other memory fills and moves without a word from the kernel, so LOOKS follow
the question, and one more whenever other domains start or stop.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

import trio

from hostler.errors import TimedOut
from hostlerd.host import Host, Kick
from hostlerd.model.domains import Running
from hostlerd.model.guest_memory import Placed
from hostlerd.observe.guest_memory import guest_memory
from hostlerd.reconcile.latch import Latch

log = logging.getLogger(__name__)

LOOKS = (0.0, 5.0, 30.0, 300.0)
"""Seconds after the question. A guest whose memory is still being pinned has little at the first."""
LIMIT = 60.0
"""Seconds for one domain: with small pages some 0.1 to 0.3 s a GiB."""


@dataclass(slots=True)
class _Domain:
    running: Running
    due: list[float]
    settled: bool = False


class GuestMemory:
    """`changed`: called when something else is known than before."""

    def __init__(self, host: Host, changed: Kick) -> None:
        self._host, self._changed = host, changed
        self._domains: dict[str, _Domain] = {}
        self._running: frozenset[str] = frozenset()
        self._asked = Latch()
        self.known: dict[str, Placed] = {}
        """By UUID; empty while it was asked for and is not known."""

    def want(self, domains: Iterable[Running]) -> None:
        now = trio.current_time()
        for running in domains:
            if running.uuid not in self._domains:
                self._domains[running.uuid] = _Domain(running, [now + after for after in LOOKS])
                self.known = {running.uuid: Placed(), **self.known}
                self._asked.kick()

    def keep(self, running: Iterable[Running]) -> None:
        """These run, and no others; whoever is new may have moved the others' memory."""
        uuids = frozenset(domain.uuid for domain in running)
        if uuids == self._running:
            return
        self._running = uuids
        for uuid in set(self._domains) - uuids:
            self.forget(uuid)
        for domain in self._domains.values():
            if not domain.settled and not domain.due:
                domain.due = [trio.current_time()]
                self._asked.kick()

    def forget(self, uuid: str) -> None:
        self._domains.pop(uuid, None)
        self.known = {key: placed for key, placed in self.known.items() if key != uuid}

    async def run(self) -> None:
        while True:
            due = min((d.due[0] for d in self._domains.values() if d.due), default=math.inf)
            with trio.move_on_at(due):
                await self._asked.wait()
            now, before = trio.current_time(), self.known
            for domain in tuple(self._domains.values()):
                if domain.due and domain.due[0] <= now:
                    await self._look(domain)
            if self.known != before:
                self._changed()

    async def _look(self, domain: _Domain) -> None:
        domain.due.pop(0)
        live, files = domain.running.live, self._host.files
        try:
            placed = await self._host.look(lambda: guest_memory(files, live.name, live.uuid), limit=LIMIT)
        except TimedOut as error:
            log.info("where the memory of %s is: %s", live.name, error.sentence, extra={"domain": live.name})
            domain.due.clear()  # it hangs, or is very large: not again before something changes
            return
        if placed is None or self._domains.get(live.uuid) is not domain:
            return  # it has ended meanwhile
        self.known = {**self.known, live.uuid: placed}
        if (live.pci_addresses or live.mdev_uuids) and placed.is_all(live.memory_kib):
            domain.settled = True
            domain.due.clear()
