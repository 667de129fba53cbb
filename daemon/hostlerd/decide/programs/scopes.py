"""Scopes of programs: each into its own, when the host has left its CPUs.

Pure. What lives on in a scope whose claim has ended (its descriptor was closed) is not ended and stays where it is,
with all CPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hostlerd.model.cpuset import format_cpu_list
from hostlerd.model.observed import Observed
from hostlerd.model.plan import AllowCpus, EnterScope, Step
from hostlerd.model.programs import Program


def scopes(observed: Observed, admitted: Iterable[Program]) -> Iterator[Step]:
    """`admitted`: with the CPUs that they are given."""
    for program in admitted:
        if not observed.ledger.untouchable(program.scope):
            yield EnterScope(
                object=program.scope,
                before=None,
                after=program.cpus,
                why=f"{program.name} asked for CPUs of its own",
                claim=program.id,
                record=program,
            )
    claimed = {program.scope for program in observed.ledger.programs.values()}
    everything = observed.topology.possible
    for group in observed.groups.programs:
        if group.unit in claimed or observed.ledger.untouchable(group.unit):
            continue
        if group.allowed and not group.allowed >= observed.topology.online:
            yield AllowCpus(
                object=group.unit,
                before=format_cpu_list(group.allowed),
                after=format_cpu_list(everything),
                why="what is left of a program whose claim has ended may run anywhere",
                cpus=everything,
                path=group.path,
            )
