"""Which CPUs are whose once everybody is placed: dedicated, isolated, and for whom what is set.

Pure. What the host must keep comes first: pins that would leave it too little are not isolated.
"""

from __future__ import annotations

from hostlerd.decide.isolation import Isolated
from hostlerd.decide.ownership import Ownership
from hostlerd.decide.pinning import Tenant
from hostlerd.decide.programs import Programs
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Refusal
from hostlerd.model.settings import Settings


def absent(observed: Observed, settings: Settings) -> list[Refusal]:
    """CPUs that the host is to keep and does not have: a policy of another machine, or a slip."""
    missing = settings.housekeeping.cpus - observed.topology.possible
    if not missing or not observed.topology.possible:
        return []
    return [
        Refusal(
            object="housekeeping",
            reason=f"housekeeping.cpus names CPUs {format_cpu_list(missing)}, which this host does not have "
            f"(it has {format_cpu_list(observed.topology.possible)})",
            remedy="mend housekeeping.cpus in [host], then `hostler reload`",
        )
    ]


def dedicated_cpus(
    observed: Observed, settings: Settings, domains: list[Tenant], programs: Programs
) -> tuple[CpuSet, list[Refusal]]:
    """CPUs of dedicated domains, and of programs.

    Explicit pins may leave the host too little: then those stay shared with the host.
    """
    online, least = observed.topology.online, settings.housekeeping.at_least
    refusals: list[Refusal] = []
    floating: list[Tenant] = []
    dedicated = frozenset[int]().union(*(p.taken for _, p in programs.placements(online)))
    for tenant in domains:
        placement = programs.domains.get(tenant.definition.uuid)
        if placement is None:
            continue
        if placement.vcpus is None:
            if tenant.mode == "dedicated":
                floating.append(tenant)
            continue
        # A pin to all CPUs says "anywhere".
        narrow = frozenset[int]().union(*(cpus for cpus in placement.vcpus if not cpus >= online))
        more = ((narrow | placement.emulator | placement.idle) & online) - settings.housekeeping.cpus
        if len(online - dedicated - more) >= least:
            dedicated |= more
            continue
        dedicated |= more - placement.explicit
        refusals.append(
            Refusal(
                object=tenant.definition.name,
                reason=f"the pins of {tenant.definition.name} (<vcpupin>, or by hand) would leave the host "
                f"{len(online - dedicated - more)} CPUs of the {least} it must keep, so they are not isolated",
                remedy="pin it to fewer CPUs, or lower housekeeping.at_least",
            )
        )
    kept = max(least, len(settings.housekeeping.cpus & online))
    refusals += [_no_room(tenant, len(online), kept, len(dedicated)) for tenant in floating]
    return dedicated, refusals


def _no_room(tenant: Tenant, online: int, kept: int, had: int) -> Refusal:
    """`kept`: CPUs that are the host's own in any case; `had`: those that others have."""
    name = tenant.definition.name
    others = f", and other domains and programs have {had}" if had else ""
    stop = "stop another domain, " if had else ""
    return Refusal(
        object=name,
        reason=f"{name} gets no CPUs of its own and floats on the host's: it has {tenant.definition.vcpus} vCPUs; of "
        f"{online} CPUs the host keeps {kept}{others}",
        remedy=f"give it fewer vCPUs, {stop}lower housekeeping.at_least or housekeeping.cpus, "
        'or set cpus = "shared" for it',
    )


def isolated_cpus(domains: list[Tenant], programs: Programs, dedicated: CpuSet) -> CpuSet:
    """Of the dedicated CPUs, those of domains and programs whose profile keeps the host's units off."""
    ours = (programs.domains.get(t.definition.uuid) for t in domains if t.policy.isolates.slices)
    theirs = (p for one, p in programs.placements(dedicated) if one.isolates.slices)
    return dedicated & frozenset().union(*(p.taken for p in (*ours, *theirs) if p is not None))


def tuned(
    observed: Observed,
    own: Ownership,
    domains: list[Tenant],
    taken: dict[str, CpuSet],
) -> list[Isolated]:
    """Domains with CPUs of their own whose start has been answered, for what is beside the masks of units."""
    found: list[Isolated] = []
    by_id = observed.topology.by_id
    for tenant in domains:
        uuid, name = tenant.definition.uuid, tenant.definition.name
        claim, cpus = observed.ledger.claims.get(uuid), taken.get(uuid)
        answered = tenant.running is not None or (claim is not None and claim.prepared)
        if cpus and (answered or uuid in observed.imagined):
            found.append(
                Isolated(
                    name=name,
                    cpus=cpus,
                    how=tenant.policy.isolates,
                    nodes=frozenset(by_id[cpu].node for cpu in cpus if cpu in by_id),
                    functions=frozenset(a for a, holder in own.holder.items() if holder.uuid == uuid),
                )
            )
    return found


def tuned_for_programs(observed: Observed, programs: Programs) -> list[Isolated]:
    """Those that run on their CPUs."""
    by_id, alive = observed.topology.by_id, {one.id for one in programs.living}
    return [
        Isolated(
            name=one.name,
            cpus=placement.taken,
            how=one.isolates,
            nodes=frozenset(by_id[cpu].node for cpu in placement.taken),
        )
        for one, placement in programs.placements(observed.topology.online)
        if one.id in alive
    ]
