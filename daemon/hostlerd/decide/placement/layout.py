"""The host cut into buckets: sets of cores that are all alike.

A search over CPUs drowns in symmetry: any free core of an L3 domain is as good as the next. So the search counts cores
by bucket and `assignment` turns counts into CPUs at the end. Cores that are half gone (a sibling is the host's or is
pinned by a user) are buckets of their own: what is left of them is a smaller core.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from hostlerd.decide.placement.topology import Host
from hostlerd.model.cpus import CoreClass
from hostlerd.model.cpuset import CpuSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Cores that are alike.

    `width`: threads of each that can be given away. `beside_host`: the rest is the host's. `scarce`: they count for
    the host's reserve, all threads where one does. `loud`: the kernel works there, though it keeps off other CPUs.
    """

    index: int
    l3: int
    node: int
    socket: int
    core_class: CoreClass
    small_cache: bool
    slow: bool
    width: int
    beside_host: bool
    scarce: bool
    loud: bool
    cores: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The host cut into buckets, less the CPUs in `blocked`, which domains hold that will not be moved."""

    host: Host
    blocked: CpuSet = frozenset()
    buckets: tuple[Bucket, ...] = field(init=False)

    def __post_init__(self) -> None:
        host, free = self.host, self.host.usable - self.blocked
        alike: dict[tuple[int, int, int, CoreClass, bool, int, bool, bool, bool], list[int]] = {}
        for core, cpus in sorted(host.cores.items()):
            given = [cpu for cpu in cpus if cpu in free]
            if given:
                cpu = host.cpus[cpus[0]]
                beside_host = any(c in host.must for c in cpus) and not any(c in self.blocked for c in cpus)
                slow = any(c in host.slow for c in cpus)
                scarce = any(c in host.reserve for c in given)
                loud = bool(host.quiet) and not host.quiet.issuperset(given)
                place = (cpu.socket, cpu.node, host.l3_of[cpu.id], cpu.core_class, slow)
                alike.setdefault((*place, len(given), beside_host, scarce, loud), []).append(core)
        buckets = tuple(
            Bucket(index=index, socket=socket, node=node, l3=l3, core_class=core_class, slow=slow, width=width,
                   small_cache=l3 in host.small_l3, beside_host=beside_host, scarce=scarce, loud=loud,
                   cores=tuple(cores))
            for index, ((socket, node, l3, core_class, slow, width, beside_host, scarce, loud), cores)
            in enumerate(sorted(alike.items()))
        )  # fmt: skip
        object.__setattr__(self, "buckets", buckets)

    @cached_property
    def bucket_of(self) -> dict[int, Bucket]:
        """Core to bucket; cores with nothing to give are absent."""
        return {core: bucket for bucket in self.buckets for core in bucket.cores}

    @cached_property
    def l3s(self) -> tuple[int, ...]:
        """L3 domains with buckets; the search counts by position in here."""
        return tuple(sorted({bucket.l3 for bucket in self.buckets}))

    @cached_property
    def boot_bucket(self) -> int | None:
        core = self.host.boot_core
        bucket = None if core is None else self.bucket_of.get(core)
        return None if bucket is None else bucket.index

    @cached_property
    def free(self) -> CpuSet:
        return self.host.usable - self.blocked

    def cpus_of(self, core: int) -> tuple[int, ...]:
        """The CPUs of a core that can be given away."""
        return tuple(cpu for cpu in self.host.cores[core] if cpu in self.free)
