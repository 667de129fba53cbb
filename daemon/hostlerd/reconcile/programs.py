"""Programs that ask for CPUs: from the request until the descriptor that they got is closed, or their scope ends.

Which of the two comes first ends the claim. Both are events; after a restart only the scope is left to go by.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import trio

from hostler.errors import HostFailed
from hostlerd.host.lease import Lease
from hostlerd.model.programs import Program
from hostlerd.reconcile.claims import Claims
from hostlerd.reconcile.shared import Shared

log = logging.getLogger(__name__)


class Programs:
    def __init__(self, shared: Shared, claims: Claims) -> None:
        self._shared, self._claims = shared, claims
        self._send, self._receive = trio.open_memory_channel[tuple[str, Lease]](math.inf)
        self._leases: dict[str, trio.CancelScope] = {}

    async def isolate(self, program: Program) -> tuple[Program, int]:
        """What it was given, and the descriptor that is to be handed out and closed. Cancelling it gives all back.

        Raises Refused and kin.
        """
        journal = self._shared.journal

        def begin() -> None:
            journal.record(replace(program, cpus="", idle=""))
            self._shared.tell("claim", program.name, f"asks for {program.count} CPUs of its own")

        await self._claims.hold(program.id, program.name, begin)
        # No checkpoint from here to the return: what is not handed out is closed by nobody.
        given = journal.ledger.programs.get(program.id)
        if given is None:
            raise HostFailed(f"{program.name} has ended meanwhile")
        try:
            lease = Lease()
        except OSError as error:
            self._claims.end(program.id, "cannot be held")
            raise HostFailed(f"there is no descriptor to hold the claim by: {error.strerror}") from error
        self._send.send_nowait((program.id, lease))
        self._shared.tell("claim", program.name, f"has CPUs {given.cpus} for itself")
        log.info("%s (uid %d, pid %d) has CPUs %s", program.name, program.uid, program.pid, given.cpus)
        return given, lease.theirs

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            async for ident, lease in self._receive:
                nursery.start_soon(self._watch, ident, lease)

    async def _watch(self, ident: str, lease: Lease) -> None:
        try:
            with trio.CancelScope() as scope:
                self._leases[ident] = scope
                self.forget()  # it may be gone already
                await lease.wait_ended()
                self._claims.end(ident, "has let go of its CPUs")
        finally:
            del self._leases[ident]
            lease.close()

    def forget(self) -> None:
        """Wait no longer for those whose claim is over."""
        for ident, scope in self._leases.items():
            if ident not in self._shared.journal.ledger.programs:
                scope.cancel()
