"""Who stays: vCPUs of domains that run keep their CPUs where the plan has room for them there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from hostlerd.decide.placement.holding import Holding, Supply, guests
from hostlerd.decide.placement.layout import Bucket
from hostlerd.decide.placement.pricing import Pricing


class Staying:
    def __init__(self, supply: Supply) -> None:
        self.supply = supply

    def keep(self, holding: Holding) -> None:
        """Keep the cores most running vCPUs can stay on."""
        current = holding.pricing.current
        if current is None:
            return
        for index, part in holding.parts.items():
            bucket = self.supply.layout.buckets[index]
            stays = self._stays(holding, bucket)
            held = self.supply.held(holding)
            whole = [core for core in bucket.cores if core in held and self.supply.whole(bucket, core)]
            whole.sort(key=lambda core: (-len(stays.get(core, ())), *self.supply.preference(core)))
            for core in whole[: part.cores]:
                self.supply.take(holding, bucket, core)
                for vcpu, cell, cpu in stays.get(core, ()):
                    if holding.quota[index, cell] and vcpu not in holding.pins:
                        holding.place(vcpu, cell, index, cpu, core)
            # A whole guest core stays or none of it: half of one would tear it apart or block the slot of another.
            self._tidy(holding, bucket)

    def keep_loose(self, holdings: Collection[Holding]) -> None:
        """Keep threads of shared cores, on no more cores than they need if they are packed."""
        running: dict[int, list[tuple[int, Holding, int | None, int, int]]] = {}
        for holding in holdings:
            current = holding.pricing.current
            for index, part in holding.parts.items():
                if current is None or not part.loose:
                    continue
                cell_of = {v: cell for cell, vcpus in enumerate(holding.pricing.cells) for v in vcpus}
                threads = [
                    (v, cpu) for v, cpu in enumerate(current.vcpus) if v in cell_of and v not in holding.pins
                ]
                for vcpu, cpu in [*threads, *((None, cpu) for cpu in current.emulator)]:
                    core = self.supply.layout.host.cpus[cpu].core if cpu in self.supply.layout.free else None
                    if core is not None and cpu in self.supply.left[index].get(core, ()):
                        cell = 0 if vcpu is None else cell_of[vcpu]
                        running.setdefault(index, []).append((core, holding, vcpu, cell, cpu))
        for index, stays in running.items():
            width = self.supply.layout.buckets[index].width
            total = sum(h.parts[index].loose for h in holdings if index in h.parts)
            votes = Counter(core for core, *_ in stays)
            chosen = sorted(votes, key=lambda c: (-votes[c], c == self.supply.layout.host.boot_core, c))[
                : -(-total // width)
            ]
            for core, holding, vcpu, cell, cpu in stays:
                wanted = holding.loose_left(index) and (vcpu is None or holding.quota[index, cell])
                if wanted and core in chosen and cpu in self.supply.left[index].get(core, ()):
                    self.supply.take_thread(holding, index, core, cpu)
                    if vcpu is not None:
                        holding.place(vcpu, cell, index, cpu, core)

    def _stays(self, holding: Holding, bucket: Bucket) -> dict[int, list[tuple[int, int, int]]]:
        """By core: (vCPU, cell, CPU) of the guest cores that would stay on it."""
        pricing, host = holding.pricing, self.supply.layout.host
        current = pricing.current
        assert current is not None  # noqa: S101
        stays: dict[int, list[tuple[int, int, int]]] = {}
        slots = {
            core: self._slots(pricing, bucket) for core in bucket.cores if self.supply.whole(bucket, core)
        }
        groups: list[tuple[int, tuple[bool, int, int], int, list[tuple[int, int, int]]]] = []
        for cell, vcpus in enumerate(pricing.cells):
            if not holding.quota[bucket.index, cell]:
                continue
            for guest in guests(vcpus, pricing.need.threads if bucket.width >= pricing.need.threads else 1):
                on: dict[int, list[tuple[int, int, int]]] = {}
                for vcpu in guest:
                    if vcpu < len(current.vcpus):
                        cpu = current.vcpus[vcpu]
                        if cpu in self.supply.layout.free and host.cpus[cpu].core in slots:
                            on.setdefault(host.cpus[cpu].core, []).append((vcpu, cell, cpu))
                groups += [(-len(on[core]), self.supply.preference(core), core, on[core]) for core in on]
        settled: set[int] = set()
        part = holding.parts[bucket.index]
        folds = sum(part.vcpus) - part.cores - part.loose if pricing.need.isolated else 0
        for *_, core, members in sorted(groups):
            guest_core = members[0][0] // pricing.need.threads
            if not slots[core] and folds > 0 and len(stays[core]) < bucket.width:
                folds -= 1
                slots[core] += 1
            if slots[core] and (guest_core not in settled or bucket.width < pricing.need.threads):
                slots[core] -= 1
                settled.add(guest_core)
                stays.setdefault(core, []).extend(members)
        return stays

    def _slots(self, pricing: Pricing, bucket: Bucket) -> int:
        """Guest cores that a core of the bucket holds."""
        if pricing.need.isolated:
            return 1
        return bucket.width // pricing.need.threads if bucket.width >= pricing.need.threads else bucket.width

    def _tidy(self, holding: Holding, bucket: Bucket) -> None:
        threads = holding.pricing.need.threads
        if threads == 1 or bucket.width < threads:
            return
        for cell, vcpus in enumerate(holding.pricing.cells):
            for guest in guests(vcpus, threads):
                kept = [
                    v for v in guest if v in holding.pins and self.supply.bucket(holding.pins[v]) is bucket
                ]
                missing = [v for v in guest if v not in holding.pins]
                if kept and missing:
                    core = self.supply.layout.host.cpus[holding.pins[kept[0]]].core
                    for vcpu in missing:
                        if holding.quota[bucket.index, cell] and holding.open[core]:
                            holding.place(vcpu, cell, bucket.index, holding.open[core][0], core)
