"""Who has CPUs. A program has what it was given for as long as its scope has a process: that is what can be seen after
a restart of the daemon, when the descriptor that its claim hung on is gone.

Pure. Its CPUs are never moved: what it did with them (its threads' own affinities) would be wiped, and nobody asked it.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlerd.model.observed import Observed
from hostlerd.model.programs import Program


def living(observed: Observed) -> Iterator[Program]:
    """Also one whose scope is just being made."""
    scopes = {group.unit for group in observed.groups.programs} | observed.unseen
    for program in observed.ledger.programs.values():
        if program.given and (program.scope in scopes or observed.ledger.is_outstanding(program.scope)):
            yield program


def gone(observed: Observed) -> list[str]:
    """Ids of those that had CPUs and need them no more."""
    alive = {program.id for program in living(observed)}
    return [one.id for one in observed.ledger.programs.values() if one.given and one.id not in alive]
