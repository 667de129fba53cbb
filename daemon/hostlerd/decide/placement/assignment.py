"""Counts become CPUs: every vCPU that may stay where it is stays, the others fill whole cores, the boot core last."""

from __future__ import annotations

from collections.abc import Mapping

from hostlerd.decide.placement.holding import Holding, Supply, guests
from hostlerd.decide.placement.layout import Bucket, Layout
from hostlerd.decide.placement.need import Assignment
from hostlerd.decide.placement.pricing import Plan, Pricing
from hostlerd.decide.placement.staying import Staying


def assign(
    layout: Layout, pricings: Mapping[str, Pricing], plans: Mapping[str, Plan | None]
) -> dict[str, Assignment | None]:
    """CPUs for each plan."""
    holdings = {
        n: Holding(pricings[n], {p.bucket: p for p in plan}) for n, plan in plans.items() if plan is not None
    }
    supply = Supply(layout, holdings.values())
    staying, filling = Staying(supply), _Filling(supply)

    def slack(holding: Holding) -> int:
        return len(supply.held(holding)) - sum(part.cores for part in holding.parts.values())

    # Who has the least choice comes first.
    for holding in sorted(holdings.values(), key=slack):
        staying.keep(holding)
    staying.keep_loose(holdings.values())
    for holding in holdings.values():
        filling.extend(holding)
    for holding in holdings.values():
        filling.share(holding)
    return {name: filling.finish(holdings[name]) if name in holdings else None for name in plans}


class _Filling:
    def __init__(self, supply: Supply) -> None:
        self.supply = supply

    def extend(self, holding: Holding) -> None:
        for index, part in holding.parts.items():
            bucket = self.supply.layout.buckets[index]
            while holding.whole.get(index, 0) < part.cores:
                free = [core for core, cpus in self.supply.left[index].items() if len(cpus) == bucket.width]
                self.supply.take(
                    holding,
                    bucket,
                    min(free, key=lambda core: (core == self.supply.layout.host.boot_core, core)),
                )

    def share(self, holding: Holding) -> None:
        """Threads on shared cores, then every vCPU without a CPU."""
        boot = self.supply.layout.host.boot_core
        for index in holding.parts:
            for _ in range(min(holding.loose_left(index), sum(map(len, self.supply.left[index].values())))):
                # Pieces first, so that whole cores stay whole.
                core = min((len(cpus), c == boot, c) for c, cpus in self.supply.left[index].items())[2]
                self.supply.take_thread(holding, index, core, self.supply.left[index][core][0])
        for cell, vcpus in enumerate(holding.pricing.cells):
            waiting = [
                guest
                for guest in guests(vcpus, holding.pricing.need.threads)
                if any(v not in holding.pins for v in guest)
            ]
            waiting.sort(key=len, reverse=True)
            for near in range(3):
                waiting = [guest for guest in waiting if not self._join(holding, cell, guest, near)]
            for guest in waiting:
                self._tear(holding, cell, guest)

    def _join(self, holding: Holding, cell: int, guest: tuple[int, ...], near: int) -> bool:
        """Put a guest core on a core of a bucket that still wants as much of its cell, near to where it runs."""
        missing = [v for v in guest if v not in holding.pins]
        for index in holding.parts:
            bucket = self.supply.layout.buckets[index]
            if holding.quota[index, cell] >= len(missing) and self._near(holding, guest, bucket, near):
                core = self._slot(holding, bucket, len(missing))
                if core is not None and len(holding.open[core]) >= len(missing):
                    for vcpu in missing:
                        holding.place(vcpu, cell, index, holding.open[core][0], core)
                    return True
        return False

    def _tear(self, holding: Holding, cell: int, guest: tuple[int, ...]) -> None:
        """Put the vCPUs of a guest core wherever its cell has quota left."""
        for vcpu in guest:
            for index in holding.parts:
                if vcpu not in holding.pins and holding.quota[index, cell]:
                    core = self._slot(holding, self.supply.layout.buckets[index], 1)
                    if core is not None:
                        holding.place(vcpu, cell, index, holding.open[core][0], core)

    def _near(self, holding: Holding, guest: tuple[int, ...], bucket: Bucket, near: int) -> bool:
        """Whether a bucket is in the L3 domain (0) or node (1) the guest core runs in, or anywhere (2)."""
        current = holding.pricing.current
        if near == 2 or current is None or guest[0] >= len(current.vcpus):
            return near == 2
        old = self.supply.bucket(current.vcpus[guest[0]])
        if old is None:
            return False
        return old.l3 == bucket.l3 if near == 0 else old.node == bucket.node

    def _slot(self, holding: Holding, bucket: Bucket, wanted: int) -> int | None:
        """A core with room: the fullest that still takes the whole guest core, for isolated vCPUs an empty one."""
        cores = [c for c in holding.cores.get(bucket.index, ()) if holding.open[c]]
        if not cores:
            return None
        used = {self.supply.layout.host.cpus[cpu].core for cpu in holding.pins.values()}
        if holding.pricing.need.isolated:
            return min(cores, key=lambda c: (c in used, c))
        return min(cores, key=lambda c: (len(holding.open[c]) < wanted, len(holding.open[c]), c))

    def finish(self, holding: Holding) -> Assignment | None:
        current = holding.pricing.current
        before = current.emulator if current else ()
        emulator: list[int] = []
        idle: list[int] = []
        for index, part in holding.parts.items():
            rest = sorted(
                (c for core in holding.cores.get(index, ()) for c in holding.open[core]),
                key=lambda c: (c not in before, c),
            )
            emulator += rest[: part.emulator]
            idle += rest[part.emulator :]
        if len(holding.pins) < holding.pricing.need.vcpus:
            return None  # shared cores of more than two threads may not come out as counted
        return Assignment(
            vcpus=tuple(holding.pins[v] for v in range(holding.pricing.need.vcpus)),
            emulator=tuple(sorted(emulator)),
            idle=tuple(sorted(idle)),
        )
