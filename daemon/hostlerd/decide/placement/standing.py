"""One domain's part in a placement: the objective's terms as this domain sees them, in counts that people use.

Some differ from the objective's own: spans are counted as they are, not less their minimum (L3 domains; NUMA nodes and
every socket but the first), and what several domains have together (a shared core or L3 domain) counts for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.need import Assignment, Need
from hostlerd.decide.placement.topology import Host

Assignments = Mapping[str, Assignment | None]


def owners_of(needs: Iterable[Need], assignments: Assignments) -> dict[int, str]:
    """CPU to the domain that has it."""
    return {
        cpu: need.name
        for need in needs
        if (given := assignments.get(need.name)) is not None
        for cpu in given.cpus
    }


def standing(
    host: Host, needs: Iterable[Need], assignments: Assignments, current: Assignments, need: Need
) -> o.Terms:
    """The terms of `need` in the placement of all `needs`; one that floats has the first one alone."""
    given = assignments.get(need.name)
    if given is None:
        return o.Terms(undedicated=need.vcpus + need.emulator)
    owner = owners_of(needs, assignments)
    own = o.domain_terms(host, need, given, current.get(need.name))
    least = [o.span_minimum(host, need, len(cell)) for cell in need.units() if cell]
    l3s = {host.l3_of[cpu] for cpu in given.vcpus}
    users: dict[int, set[str]] = {}
    touched: dict[int, set[str]] = {host.l3_of[cpu]: {""} for cpu in host.must if cpu in host.l3_of}
    for other in needs:
        has = assignments.get(other.name)
        for cpu in has.vcpus if has else ():
            users.setdefault(host.l3_of[cpu], set()).add(other.name)
        for cpu in has.cpus if has else ():
            touched.setdefault(host.l3_of[cpu], set()).add(other.name)
    return own._replace(
        undedicated=max(0, need.emulator - len(given.emulator)),
        smt=own.smt + len(crowded_cores(host, owner, given)),
        node_span=own.node_span + sum(nodes - 1 for nodes, _ in least),
        l3_span=own.l3_span + sum(l3 for _, l3 in least),
        cpu0=int(host.boot_core is not None and any(c in given.cpus for c in host.cores[host.boot_core])),
        l3_shared=sum(len(users[l3]) > 1 for l3 in l3s),
        free_l3=sum(names == {need.name} for names in touched.values()),
    )


def crowded_cores(host: Host, owner: Mapping[int, str], given: Assignment) -> dict[int, set[str]]:
    """Cores of a domain that others have a part of, with their names; the host's is empty."""
    found: dict[int, set[str]] = {}
    for core in sorted({host.cpus[cpu].core for cpu in given.cpus}):
        everybody = {owner.get(cpu, "") for cpu in host.cores[core] if cpu not in host.taken}
        if len(everybody) > 1:
            mine = {owner.get(cpu, "") for cpu in host.cores[core] if cpu in given.cpus}
            found[core] = everybody - mine
    return found
