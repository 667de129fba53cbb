"""What domains get while counts become CPUs, and the CPUs that nobody has yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hostlerd.decide.placement.layout import Bucket, Layout
from hostlerd.decide.placement.pricing import Part, Pricing


@dataclass(slots=True)
class Holding:
    """What one domain has so far. `open`: CPUs of its cores that are not used yet, by core."""

    pricing: Pricing
    parts: dict[int, Part]
    pins: dict[int, int] = field(default_factory=dict)
    open: dict[int, list[int]] = field(default_factory=dict)
    cores: dict[int, list[int]] = field(default_factory=dict)
    quota: dict[tuple[int, int], int] = field(default_factory=dict)
    whole: dict[int, int] = field(default_factory=dict)
    shared: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, part in self.parts.items():
            for cell, vcpus in enumerate(part.vcpus):
                self.quota[index, cell] = vcpus

    def loose_left(self, index: int) -> int:
        return self.parts[index].loose - self.shared.get(index, 0)

    def place(self, vcpu: int, cell: int, bucket: int, cpu: int, core: int) -> None:
        self.pins[vcpu] = cpu
        self.open[core].remove(cpu)
        self.quota[bucket, cell] -= 1


class Supply:
    """CPUs nobody has, by bucket and core (`left`). A core some threads of which are given is shared."""

    def __init__(self, layout: Layout, holdings: Iterable[Holding]) -> None:
        self.layout = layout
        self.left = [{core: list(layout.cpus_of(core)) for core in b.cores} for b in layout.buckets]
        # How many domains run on a core.
        self.wanted = Counter(core for holding in holdings for core in self.held(holding))

    def held(self, holding: Holding) -> set[int]:
        """Cores the domain has a CPU of."""
        cpus, current = self.layout.host.cpus, holding.pricing.current
        return {cpus[cpu].core for cpu in current.cpus if cpu in cpus} if current else set()

    def whole(self, bucket: Bucket, core: int) -> bool:
        """Whether nobody has any of a core yet."""
        return len(self.left[bucket.index].get(core, ())) == bucket.width

    def preference(self, core: int) -> tuple[bool, int, int]:
        """The boot core last, and those others run on, too."""
        return core == self.layout.host.boot_core, self.wanted[core], core

    def bucket(self, cpu: int) -> Bucket | None:
        known = self.layout.host.cpus.get(cpu)
        return self.layout.bucket_of.get(known.core) if known else None

    def take(self, holding: Holding, bucket: Bucket, core: int) -> None:
        holding.open[core] = self.left[bucket.index].pop(core)
        holding.cores.setdefault(bucket.index, []).append(core)
        holding.whole[bucket.index] = holding.whole.get(bucket.index, 0) + 1

    def take_thread(self, holding: Holding, index: int, core: int, cpu: int) -> None:
        self.left[index][core].remove(cpu)
        if not self.left[index][core]:
            del self.left[index][core]
        holding.open.setdefault(core, []).append(cpu)
        if core not in holding.cores.setdefault(index, []):
            holding.cores[index].append(core)
        holding.shared[index] = holding.shared.get(index, 0) + 1


def guests(vcpus: tuple[int, ...], threads: int) -> list[tuple[int, ...]]:
    """The vCPUs of a cell by guest core."""
    groups: dict[int, list[int]] = {}
    for vcpu in vcpus:
        groups.setdefault(vcpu // threads, []).append(vcpu)
    return [tuple(group) for group in groups.values()]
