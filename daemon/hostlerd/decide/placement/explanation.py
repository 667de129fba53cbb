"""Why a domain did not get the best: each core term in words, with what stands in the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostlerd.decide.placement.need import Assignment, Need
from hostlerd.decide.placement.objective import domain_terms
from hostlerd.decide.placement.topology import Host


def explain(
    host: Host, _needs: Iterable[Need], assignments: Mapping[str, Assignment | None], need: Need
) -> tuple[str, ...]:
    """One sentence for each term the domain misses; () when it has the best there is."""
    given = assignments[need.name]
    if given is None:
        return (f"floats on the host's CPUs: no room for {need.vcpus} vCPUs",)
    t = domain_terms(host, need, given, None)
    reasons: list[str] = []
    if t.undedicated:
        reasons.append(f"{len(given.emulator)} emulator CPUs instead of {need.emulator}")
    if t.displaced:
        reasons.append(f"{t.displaced} vCPUs on a node that holds none of their memory")
    return tuple(reasons)
