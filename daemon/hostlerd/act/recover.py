"""After a restart: what the last life of the daemon had begun and not ended.

A step whose writer process is gone has ended, whatever it did: the next pass sees the result. One whose writer is still
there gets a moment, then its object is degraded: the write hangs in the kernel, and reading the device would hang us.
The end of such a writer is waited for by reconcile.returns.
A claim whose hook was never answered is dropped: the hook saw the connection break and refused the start. So is that
of a program that has no CPUs yet; one that has lives as long as its scope.
"""

from __future__ import annotations

import time

import trio

from hostlerd.act.journal import Journal
from hostlerd.host import Host
from hostlerd.model.ledger import Trouble

PATIENCE = 5.0
"""Seconds a writer of the last life may still need."""
STEP = 0.1


async def recover(host: Host, journal: Journal) -> None:
    for claim in tuple(journal.ledger.claims.values()):
        if not claim.prepared:
            journal.unclaim(claim.uuid)
    for program in tuple(journal.ledger.programs.values()):
        if not program.given:
            journal.unclaim(program.id)
    # The end of a process that is not our child: there is nothing to wait on but its number.
    with trio.move_on_after(PATIENCE):
        while any(_alive(host, step.writer) for step in journal.ledger.outstanding.values()):  # noqa: ASYNC110
            await trio.sleep(STEP)
    for step in tuple(journal.ledger.outstanding.values()):
        if not _alive(host, step.writer):
            journal.returned(step.number)
        elif step.object not in journal.ledger.troubles:
            journal.trouble(
                Trouble(
                    object=step.object,
                    reason=f"the {step.kind} of {step.object} has not returned from the kernel",
                    remedy="as a rule only a restart of the host ends it",
                    since=time.time(),
                    wedged=True,
                )
            )


def _alive(host: Host, writer: int) -> bool:
    """A process with that number that is a writer; the number may be another's by now."""
    try:
        return writer > 0 and "writing" in host.files.read(f"/proc/{writer}/cmdline")
    except OSError:
        return False
