"""Who gets CPUs: in the order in which they asked, each only if all that it wishes can be had.

Pure. The planner is asked as for a domain that starts, so a domain that may be moved can make room; but nobody who has
CPUs of its own, or is about to get them, goes without for a program. What was wished is met or the program is refused:
unlike a domain it was not going to start anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from hostlerd.decide.living import gone, living
from hostlerd.decide.pinning import Asked, Tenant, ask, decide_placement
from hostlerd.decide.placement import Assignment, Need, place
from hostlerd.decide.programs.shortage import Shortage
from hostlerd.model.cpus import CoreClass, Topology
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Placement, Refusal
from hostlerd.model.programs import ROOT, Program
from hostlerd.model.settings import Settings


@dataclass(slots=True, kw_only=True)
class Programs:
    """`domains`: the placements of domains, beside which there is room. `admitted`: with the CPUs that they get.

    `gone`: ids of those whose claim is over.
    """

    domains: dict[str, Placement]
    living: list[Program]
    admitted: list[Program] = field(default_factory=list[Program])
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    gone: list[str] = field(default_factory=list[str])

    def placements(self, online: CpuSet) -> Iterator[tuple[Program, Placement]]:
        """Of those that have CPUs, or are about to."""
        for program in (*self.living, *self.admitted):
            yield (
                program,
                Placement(
                    uuid=program.id,
                    vcpus=tuple(frozenset({cpu}) for cpu in sorted(program.own & online)),
                    idle=parse_cpu_list(program.idle) & online,
                ),
            )


def decide_programs(observed: Observed, settings: Settings, domains: Sequence[Tenant]) -> Programs:
    found = Programs(
        domains=decide_placement(observed, settings, domains),
        living=list(living(observed)),
        gone=gone(observed),
    )
    for program in observed.ledger.programs.values():
        if not program.given:
            _admit(found, program, observed, settings, domains)
    return found


def _admit(
    found: Programs, program: Program, observed: Observed, settings: Settings, domains: Sequence[Tenant]
) -> None:
    present = (*found.living, *found.admitted)
    taken = frozenset[int]().union(*(one.taken for one in found.admitted))
    asked = ask(observed, settings, domains, taken)
    shortage = Shortage(
        program=program,
        host=asked.host,
        holders={
            **{t.name: p.taken for t in domains if (p := found.domains.get(t.uuid)) and p.vcpus is not None},
            **{one.name: one.taken for one in present},
        },
        at_least=settings.housekeeping.at_least,
    )
    if not observed.groups.unified:
        found.refusals.append(shortage.no_unified())
        return
    if program.count > asked.host.most_owned:
        found.refusals.append(shortage.no_room())
        return
    given = _given(program, asked)
    if given is None:
        found.refusals.append(shortage.no_room())
        return
    if (reason := _too_much(given, present, settings)) is not None:
        found.refusals.append(shortage.over_limit(reason))
        return
    if (wish := _missed(given, observed.topology)) is not None:
        found.refusals.append(shortage.no_such(wish))
        return
    beside = decide_placement(observed, settings, domains, taken | given.taken)
    if any(p.vcpus is not None and beside[uuid].vcpus is None for uuid, p in found.domains.items()):
        found.refusals.append(shortage.no_room())
        return
    found.domains = beside
    found.admitted.append(given)


def _given(program: Program, asked: Asked) -> Program | None:
    need = Need(
        name=program.id,
        vcpus=program.count,
        smt=program.smt,
        core_class=None if program.core_class == "none" else program.core_class,
    )
    assignment: Assignment | None = place(asked.host, (*asked.needs, need), asked.current).assignments[
        need.name
    ]
    if assignment is None:
        return None
    return replace(
        program, cpus=format_cpu_list(assignment.vcpus), idle=format_cpu_list(frozenset(assignment.idle))
    )


_QUIETNESS = ("none", "balanced", "latency", "realtime")
"""Each asks more of the host than the one before."""


def _too_much(given: Program, present: Sequence[Program], settings: Settings) -> str | None:
    """The limit of policy that it would be over."""
    limits = settings.claims
    if given.uid == ROOT:
        return None
    counted = [one for one in present if one.uid != ROOT] + [given]
    everybodys = sum(len(one.taken) for one in counted)
    users = sum(len(one.taken) for one in counted if one.uid == given.uid)
    if _QUIETNESS.index(given.profile) > _QUIETNESS.index(limits.users_profile):
        return f'the profile "{given.profile}" is asked for, and [claims] users_profile = "{limits.users_profile}"'
    if users > limits.users_at_most:
        return (
            f"user {given.uid} would have {users} CPUs, and [claims] users_at_most = {limits.users_at_most}"
        )
    if limits.at_most is not None and everybodys > limits.at_most:
        return f"programs would have {everybodys} CPUs, and [claims] at_most = {limits.at_most}"
    return None


def _missed(given: Program, topology: Topology) -> str | None:
    """What was wished, could not be had, and is not done without."""
    cpus = [topology.by_id[cpu] for cpu in sorted(given.own)]
    if given.same_l3 and len({cpu.l3 for cpu in cpus}) > 1:
        return "that share a level-3 cache"
    if given.same_node and len({cpu.node for cpu in cpus}) > 1:
        return "of one NUMA node"
    if given.smt == "isolate" and any(cpu.siblings & given.own - {cpu.id} for cpu in cpus):
        return "on cores of their own"
    wanted = given.core_class
    if wanted != "none" and any(cpu.core_class not in (wanted, CoreClass.UNIFORM) for cpu in cpus):
        return f"on {wanted} cores"
    return None
