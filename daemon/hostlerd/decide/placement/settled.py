"""The plan a running domain already follows, if it follows one.

What it holds must be what a plan could say: whole cores, guest cores on host cores, no more than it needs, and at
most a few odd threads on shared cores. Anything else (pins made by hand in numeric order, say) is planned anew, with
the migrations that costs counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hostlerd.decide.placement.layout import Layout
from hostlerd.decide.placement.need import Assignment, Need

if TYPE_CHECKING:
    from hostlerd.decide.placement.pricing import Pricing


@dataclass(slots=True)
class Held:
    """What a domain holds in a bucket, in the terms of a plan's part."""

    vcpus: list[int]
    emulator: int = 0
    cores: set[int] = field(default_factory=set)
    loose: int = 0


def held(layout: Layout, need: Need, current: Assignment | None) -> dict[int, Held] | None:
    """By bucket; None where it is no plan."""
    if current is None or len(current.vcpus) != need.vcpus or len(current.emulator) > need.emulator:
        return None
    cpus = current.cpus
    if not layout.free.issuperset(cpus) or len(set(cpus)) != len(cpus):
        return None
    core_of = {cpu: layout.host.cpus[cpu].core for cpu in cpus}
    on: dict[int, int] = {}
    for core in core_of.values():
        on[core] = on.get(core, 0) + 1
    shared = {core for core, count in on.items() if count < len(layout.cpus_of(core))}
    if any(core_of[cpu] in shared for cpu in current.idle):
        return None
    if not _aligned(layout, need, [core_of[cpu] for cpu in current.vcpus], shared):
        return None
    cells = need.units()
    found: dict[int, Held] = {}

    def book(cpu: int) -> Held:
        core = core_of[cpu]
        here = found.setdefault(layout.bucket_of[core].index, Held([0] * len(cells)))
        if core in shared:
            here.loose += 1
        else:
            here.cores.add(core)
        return here

    for cell, vcpus in enumerate(cells):
        for vcpu in vcpus:
            book(current.vcpus[vcpu]).vcpus[cell] += 1
    for cpu in current.emulator:
        book(cpu).emulator += 1
    if any(layout.bucket_of[core].index not in found for core in on):
        return None  # idle cores and nothing else
    for cpu in current.idle:
        found[layout.bucket_of[core_of[cpu]].index].cores.add(core_of[cpu])
    if any(here.loose >= layout.buckets[index].width > 1 for index, here in found.items()):
        return None
    return found


def _aligned(layout: Layout, need: Need, on: Sequence[int], shared: set[int]) -> bool:
    """Guest cores are on host cores, each on its own, where the host's cores are wide enough."""
    threads = need.threads
    if threads == 1:
        return True
    used: dict[int, int] = {}
    for first in range(0, len(on), threads):
        cores = set(on[first : first + threads])
        if (
            len(cores) > 1
            and not cores <= shared
            and any(layout.bucket_of[c].width >= threads for c in cores)
        ):
            return False
        for core in cores:
            used[core] = used.get(core, 0) + 1
    return all(
        count * min(threads, layout.bucket_of[c].width) <= layout.bucket_of[c].width
        or layout.bucket_of[c].width < threads
        for c, count in used.items()
    )


def follows(pricing: Pricing) -> dict[int, Held] | None:
    """What the domain holds, unless it holds cores it has no use for."""
    found = held(pricing.layout, pricing.need, pricing.current)
    for index, here in (found or {}).items():
        on_cores = sum(here.vcpus) + here.emulator - here.loose
        most = pricing.cores(pricing.layout.buckets[index], here.vcpus, here.emulator)
        if len(here.cores) > most or (not here.cores and on_cores):
            return None
    return found
