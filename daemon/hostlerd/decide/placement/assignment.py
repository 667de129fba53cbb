"""Counts become CPUs: every vCPU that may stay where it is stays, the others fill whole cores, the boot core last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from hostlerd.decide.placement.need import Assignment
from hostlerd.decide.placement.pricing import Part, Plan, Pricing
from hostlerd.decide.placement.topology import Bucket, Layout


@dataclass(slots=True)
class _Holding:
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


def assign(
    layout: Layout, pricings: Mapping[str, Pricing], plans: Mapping[str, Plan | None]
) -> dict[str, Assignment | None]:
    """CPUs for each plan."""
    return _Assigner(layout).run(pricings, plans)


class _Assigner:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        # CPUs nobody has, by bucket and core; a core some threads of which are given is shared.
        self.left = [{core: list(layout.cpus_of(core)) for core in b.cores} for b in layout.buckets]
        # How many domains run on a core.
        self.wanted: Counter[int] = Counter()

    def run(
        self, pricings: Mapping[str, Pricing], plans: Mapping[str, Plan | None]
    ) -> dict[str, Assignment | None]:
        holdings = {
            n: _Holding(pricings[n], {p.bucket: p for p in plan})
            for n, plan in plans.items()
            if plan is not None
        }
        self.wanted.update(core for holding in holdings.values() for core in self._held(holding))
        # Who has the least choice comes first.
        for holding in sorted(holdings.values(), key=self._slack):
            self._keep(holding)
        self._keep_loose(holdings.values())
        for holding in holdings.values():
            self._extend(holding)
        for holding in holdings.values():
            self._share(holding)
        return {name: self._finish(holdings[name]) if name in holdings else None for name in plans}

    def _held(self, holding: _Holding) -> set[int]:
        """Cores the domain has a CPU of."""
        cpus, current = self.layout.host.cpus, holding.pricing.current
        return {cpus[cpu].core for cpu in current.cpus if cpu in cpus} if current else set()

    def _slack(self, holding: _Holding) -> int:
        return len(self._held(holding)) - sum(part.cores for part in holding.parts.values())

    # What stays.

    def _keep(self, holding: _Holding) -> None:
        """Keep the cores most running vCPUs can stay on."""
        current = holding.pricing.current
        if current is None:
            return
        for index, part in holding.parts.items():
            bucket = self.layout.buckets[index]
            stays = self._stays(holding, bucket)
            held = self._held(holding)
            whole = [core for core in bucket.cores if core in held and self._whole(bucket, core)]
            whole.sort(key=lambda core: (-len(stays.get(core, ())), *self._preference(core)))
            for core in whole[: part.cores]:
                self._take(holding, bucket, core)
                for vcpu, cell, cpu in stays.get(core, ()):
                    if holding.quota[index, cell] and vcpu not in holding.pins:
                        holding.place(vcpu, cell, index, cpu, core)
            # A whole guest core stays or none of it: half of one would tear it apart or block the slot of another.
            self._tidy(holding, bucket)

    def _keep_loose(self, holdings: Collection[_Holding]) -> None:
        """Keep threads of shared cores, on no more cores than they need if they are packed."""
        running: dict[int, list[tuple[int, _Holding, int | None, int, int]]] = {}
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
                    core = self.layout.host.cpus[cpu].core if cpu in self.layout.free else None
                    if core is not None and cpu in self.left[index].get(core, ()):
                        cell = 0 if vcpu is None else cell_of[vcpu]
                        running.setdefault(index, []).append((core, holding, vcpu, cell, cpu))
        for index, stays in running.items():
            width = self.layout.buckets[index].width
            total = sum(h.parts[index].loose for h in holdings if index in h.parts)
            votes = Counter(core for core, *_ in stays)
            chosen = sorted(votes, key=lambda c: (-votes[c], c == self.layout.host.boot_core, c))[
                : -(-total // width)
            ]
            for core, holding, vcpu, cell, cpu in stays:
                wanted = holding.loose_left(index) and (vcpu is None or holding.quota[index, cell])
                if wanted and core in chosen and cpu in self.left[index].get(core, ()):
                    self._take_thread(holding, index, core, cpu)
                    if vcpu is not None:
                        holding.place(vcpu, cell, index, cpu, core)

    def _take_thread(self, holding: _Holding, index: int, core: int, cpu: int) -> None:
        self.left[index][core].remove(cpu)
        if not self.left[index][core]:
            del self.left[index][core]
        holding.open.setdefault(core, []).append(cpu)
        if core not in holding.cores.setdefault(index, []):
            holding.cores[index].append(core)
        holding.shared[index] = holding.shared.get(index, 0) + 1

    def _stays(self, holding: _Holding, bucket: Bucket) -> dict[int, list[tuple[int, int, int]]]:
        """By core: (vCPU, cell, CPU) of the guest cores that would stay on it."""
        pricing, host = holding.pricing, self.layout.host
        current = pricing.current
        assert current is not None  # noqa: S101
        stays: dict[int, list[tuple[int, int, int]]] = {}
        slots = {core: self._slots(pricing, bucket) for core in bucket.cores if self._whole(bucket, core)}
        groups: list[tuple[int, tuple[bool, int, int], int, list[tuple[int, int, int]]]] = []
        for cell, vcpus in enumerate(pricing.cells):
            if not holding.quota[bucket.index, cell]:
                continue
            for guest in _guests(vcpus, pricing.need.threads if bucket.width >= pricing.need.threads else 1):
                on: dict[int, list[tuple[int, int, int]]] = {}
                for vcpu in guest:
                    if vcpu < len(current.vcpus):
                        cpu = current.vcpus[vcpu]
                        if cpu in self.layout.free and host.cpus[cpu].core in slots:
                            on.setdefault(host.cpus[cpu].core, []).append((vcpu, cell, cpu))
                groups += [(-len(on[core]), self._preference(core), core, on[core]) for core in on]
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

    def _whole(self, bucket: Bucket, core: int) -> bool:
        """Whether nobody has any of a core yet."""
        return len(self.left[bucket.index].get(core, ())) == bucket.width

    def _preference(self, core: int) -> tuple[bool, int, int]:
        """The boot core last, and those others run on, too."""
        return core == self.layout.host.boot_core, self.wanted[core], core

    def _slots(self, pricing: Pricing, bucket: Bucket) -> int:
        """Guest cores that a core of the bucket holds."""
        if pricing.need.isolated:
            return 1
        return bucket.width // pricing.need.threads if bucket.width >= pricing.need.threads else bucket.width

    def _tidy(self, holding: _Holding, bucket: Bucket) -> None:
        threads = holding.pricing.need.threads
        if threads == 1 or bucket.width < threads:
            return
        for cell, vcpus in enumerate(holding.pricing.cells):
            for guest in _guests(vcpus, threads):
                kept = [v for v in guest if v in holding.pins and self._bucket(holding.pins[v]) is bucket]
                missing = [v for v in guest if v not in holding.pins]
                if kept and missing:
                    core = self.layout.host.cpus[holding.pins[kept[0]]].core
                    for vcpu in missing:
                        if holding.quota[bucket.index, cell] and holding.open[core]:
                            holding.place(vcpu, cell, bucket.index, holding.open[core][0], core)

    # What is new.

    def _take(self, holding: _Holding, bucket: Bucket, core: int) -> None:
        holding.open[core] = self.left[bucket.index].pop(core)
        holding.cores.setdefault(bucket.index, []).append(core)
        holding.whole[bucket.index] = holding.whole.get(bucket.index, 0) + 1

    def _extend(self, holding: _Holding) -> None:
        for index, part in holding.parts.items():
            bucket = self.layout.buckets[index]
            while holding.whole.get(index, 0) < part.cores:
                free = [core for core, cpus in self.left[index].items() if len(cpus) == bucket.width]
                self._take(
                    holding, bucket, min(free, key=lambda core: (core == self.layout.host.boot_core, core))
                )

    def _share(self, holding: _Holding) -> None:
        """Threads on shared cores, then every vCPU without a CPU."""
        for index in holding.parts:
            for _ in range(min(holding.loose_left(index), sum(map(len, self.left[index].values())))):
                core = min(
                    self.left[index],
                    key=lambda c, left=self.left[index]: (len(left[c]), c == self.layout.host.boot_core, c),  # type: ignore[misc]
                )
                self._take_thread(holding, index, core, self.left[index][core][0])
        for cell, vcpus in enumerate(holding.pricing.cells):
            waiting = [
                guest
                for guest in _guests(vcpus, holding.pricing.need.threads)
                if any(v not in holding.pins for v in guest)
            ]
            waiting.sort(key=len, reverse=True)
            for near in range(3):
                waiting = [guest for guest in waiting if not self._join(holding, cell, guest, near)]
            for guest in waiting:
                self._tear(holding, cell, guest)

    def _join(self, holding: _Holding, cell: int, guest: tuple[int, ...], near: int) -> bool:
        """Put a guest core on a core of a bucket that still wants as much of its cell, near to where it runs."""
        missing = [v for v in guest if v not in holding.pins]
        for index in holding.parts:
            bucket = self.layout.buckets[index]
            if holding.quota[index, cell] >= len(missing) and self._near(holding, guest, bucket, near):
                core = self._slot(holding, bucket, len(missing))
                if core is not None and len(holding.open[core]) >= len(missing):
                    for vcpu in missing:
                        holding.place(vcpu, cell, index, holding.open[core][0], core)
                    return True
        return False

    def _tear(self, holding: _Holding, cell: int, guest: tuple[int, ...]) -> None:
        """Put the vCPUs of a guest core wherever its cell has quota left."""
        for vcpu in guest:
            for index in holding.parts:
                if vcpu not in holding.pins and holding.quota[index, cell]:
                    core = self._slot(holding, self.layout.buckets[index], 1)
                    if core is not None:
                        holding.place(vcpu, cell, index, holding.open[core][0], core)

    def _near(self, holding: _Holding, guest: tuple[int, ...], bucket: Bucket, near: int) -> bool:
        """Whether a bucket is in the L3 domain (0) or node (1) the guest core runs in, or anywhere (2)."""
        current = holding.pricing.current
        if near == 2 or current is None or guest[0] >= len(current.vcpus):
            return near == 2
        old = self._bucket(current.vcpus[guest[0]])
        if old is None:
            return False
        return old.l3 == bucket.l3 if near == 0 else old.node == bucket.node

    def _slot(self, holding: _Holding, bucket: Bucket, wanted: int) -> int | None:
        """A core with room: the fullest that still takes the whole guest core, for isolated vCPUs an empty one."""
        cores = [c for c in holding.cores.get(bucket.index, ()) if holding.open[c]]
        if not cores:
            return None
        used = {self.layout.host.cpus[cpu].core for cpu in holding.pins.values()}
        if holding.pricing.need.isolated:
            return min(cores, key=lambda c: (c in used, c))
        return min(cores, key=lambda c: (len(holding.open[c]) < wanted, len(holding.open[c]), c))

    def _finish(self, holding: _Holding) -> Assignment | None:
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

    def _bucket(self, cpu: int) -> Bucket | None:
        known = self.layout.host.cpus.get(cpu)
        return self.layout.bucket_of.get(known.core) if known else None


def _guests(vcpus: tuple[int, ...], threads: int) -> list[tuple[int, ...]]:
    """Guest cores of a cell."""
    groups: dict[int, list[int]] = {}
    for vcpu in vcpus:
        groups.setdefault(vcpu // threads, []).append(vcpu)
    return [tuple(group) for group in groups.values()]
