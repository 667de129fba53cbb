"""Plans, in counts by bucket, and what they cost.

A plan's cost splits in two: the domain's own part depends on its plan alone (`Pricing.cost`, remembered), the rest on
who else is where (`ledger`). Both are integers as `objective` packs them. Spans are not reduced by their minimum here:
that is a constant of the domain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.layout import Bucket, Layout
from hostlerd.decide.placement.need import Assignment, Need
from hostlerd.decide.placement.rates import Rates
from hostlerd.decide.placement.settled import follows
from hostlerd.model.cpus import CoreClass


class Part(NamedTuple):
    """A domain's share of a bucket.

    `vcpus` by guest cell; `cores` whole cores, of which threads may stay idle; `loose` threads on a core shared with
    another owner.
    """

    bucket: int
    vcpus: tuple[int, ...]
    emulator: int
    cores: int
    loose: int


Plan = tuple[Part, ...]


class Pricing:
    """One domain: its needs by bucket and what each bucket costs it."""

    def __init__(self, layout: Layout, need: Need, current: Assignment | None, rates: Rates) -> None:
        self.layout = layout
        self.need = need
        self.current = current
        self.cells = need.units()
        self.sizes = tuple(len(cell) for cell in self.cells)
        self.floating = o.UNDEDICATED * o.floating(need)
        self.rates = [rates.of(need, need.memory_of(cell)) for cell in range(len(self.cells))]
        self.linear = [rate.vcpu for rate in self.rates]
        self.emulator = rates.of(need, need.all_memory()).emulator
        # Who must not move and yet gets a new plan (its vCPUs changed in number) moves only to have CPUs at all.
        self._move = o.MIGRATION if need.movable else o.DISPLACED << o.BITS // 2
        self.missing = o.UNDEDICATED * o.weight(need)
        self._known: dict[Plan, int] = {}
        self._away: dict[frozenset[int], Mapping[int, int]] = {}

    def away(self, nodes: frozenset[int]) -> Mapping[int, int]:
        """How far each node is from where memory is going to be."""
        known = self._away.get(nodes)
        if known is None:
            host = self.layout.host
            known = self._away[nodes] = {
                node: min((host.distance(node, other) for other in nodes), default=0)
                for node in host.node_sets
            }
        return known

    @cached_property
    def at(self) -> tuple[dict[int, int], ...]:
        """Where the running vCPUs are: by cell, bucket to how many. CPUs outside every bucket are left out."""
        at: tuple[dict[int, int], ...] = tuple({} for _ in self.cells)
        if self.current is not None:
            host, bucket_of = self.layout.host, self.layout.bucket_of
            for cell, vcpus in enumerate(self.cells):
                for vcpu in vcpus:
                    if vcpu < len(self.current.vcpus):
                        cpu = host.cpus.get(self.current.vcpus[vcpu])
                        bucket = bucket_of.get(cpu.core) if cpu else None
                        if bucket is not None:
                            at[cell][bucket.index] = at[cell].get(bucket.index, 0) + 1
        return at

    @cached_property
    def holds(self) -> dict[int, int]:
        """Cores by bucket that the running vCPUs have."""
        counts: dict[int, list[int]] = {}
        for cell, at in enumerate(self.at):
            for index, vcpus in at.items():
                counts.setdefault(index, [0] * len(self.cells))[cell] = vcpus
        return {index: self.cores(self.layout.buckets[index], vcpus, 0) for index, vcpus in counts.items()}

    @property
    def runs(self) -> bool:
        """Runs on CPUs of its own with as many vCPUs as now; others count as new."""
        return self.current is not None and len(self.current.vcpus) == self.need.vcpus

    @property
    def total(self) -> int:
        """CPUs wanted, emulator included."""
        return self.need.vcpus + self.need.emulator

    def capacity(self, bucket: Bucket, cores: int) -> int:
        """vCPUs that whole cores of a bucket hold."""
        need = self.need
        if need.isolated:
            return cores
        if need.threads > 1 and bucket.width >= need.threads:
            return cores * bucket.width // need.threads * need.threads
        return cores * bucket.width

    def cores(self, bucket: Bucket, vcpus: Sequence[int], emulator: int) -> int:
        """Whole cores that so many vCPUs by cell and emulator CPUs take."""
        total, width, threads = sum(vcpus), bucket.width, self.need.threads
        least = -(-(total + emulator) // width)
        if self.need.isolated:
            return max(total, least)
        if threads > 1 and width >= threads:
            guest_cores = sum(-(-n // threads) for n in vcpus)
            return max(-(-guest_cores // (width // threads)), least)
        return least

    def taken(self, plan: Plan) -> int:
        """CPUs a plan takes from everybody else, idle ones included."""
        return sum([part.cores * self.layout.buckets[part.bucket].width + part.loose for part in plan])

    def footprint(self, plan: Plan) -> int:
        """CPUs a plan takes from the host's reserve, idle ones included."""
        buckets = self.layout.buckets
        return sum([p.cores * buckets[p.bucket].width + p.loose for p in plan if buckets[p.bucket].scarce])

    def cost(self, plan: Plan) -> int:
        cost = self._known.get(plan)
        if cost is None:
            cost = self._known[plan] = self._cost(plan)
        return cost

    def _cost(self, plan: Plan) -> int:
        need, buckets = self.need, self.layout.buckets
        cost = emulator = torn = 0
        classes: dict[CoreClass, int] = {}
        cells = range(len(self.cells))
        nodes: list[set[int]] = [set() for _ in cells]
        sockets: list[set[int]] = [set() for _ in cells]
        l3s: list[set[int]] = [set() for _ in cells]
        for index, vcpus, emulators, cores, loose in plan:
            bucket = buckets[index]
            emulator += emulators
            cost += self.emulator[index] * emulators
            total = 0
            for cell in cells:
                count = vcpus[cell]
                if count:
                    total += count
                    cost += self.linear[cell][index] * count
                    nodes[cell].add(bucket.node)
                    sockets[cell].add(bucket.socket)
                    l3s[cell].add(bucket.l3)
            if need.isolated and total > cores + loose:
                cost += o.SMT * (total - cores - loose)
            if need.threads > bucket.width:
                torn += total
            elif loose and need.threads > 1:
                torn += max(0, loose - emulators)
            classes[bucket.core_class] = classes.get(bucket.core_class, 0) + total
        if torn:
            # Single vCPUs on narrow or shared cores are guest cores torn, except an odd last one.
            cost += o.SMT * -(-max(0, torn - need.vcpus % need.threads) // need.threads)
        cost += self.missing * (need.emulator - emulator)
        cost += o.CLASS * (need.vcpus - max(classes.values()))
        for cell in cells:
            cost += o.NODE_SPAN * (len(nodes[cell]) + len(sockets[cell])) + o.L3_SPAN * len(l3s[cell])
            if self.at[cell]:
                cost += self._move * self._moved(
                    self.at[cell], {p.bucket: p.vcpus[cell] for p in plan if p.vcpus[cell]}
                )
        return cost

    def _moved(self, old: Mapping[int, int], new: Mapping[int, int]) -> int:
        """Weighted migrations of the best matching: what left a bucket goes to the nearest that gained."""
        lost = {b: n - new.get(b, 0) for b, n in old.items() if n > new.get(b, 0)}
        if not lost:
            return 0
        gained = {b: n - old.get(b, 0) for b, n in new.items() if n > old.get(b, 0)}
        buckets = self.layout.buckets
        near: dict[tuple[str, int], list[int]] = {}
        for side, counts in enumerate((lost, gained)):
            for b, n in counts.items():
                near.setdefault(("l3", buckets[b].l3), [0, 0])[side] += n
                near.setdefault(("node", buckets[b].node), [0, 0])[side] += n
        in_l3 = sum(min(pair) for (level, _), pair in near.items() if level == "l3")
        in_node = sum(min(pair) for (level, _), pair in near.items() if level == "node")
        return 4 * sum(lost.values()) - 2 * in_node - in_l3

    @cached_property
    def settled(self) -> Plan | None:
        """The plan the domain runs by, where it is one."""
        here = follows(self)
        if here is None:
            return None
        return tuple(
            Part(b, tuple(h.vcpus), h.emulator, len(h.cores), h.loose) for b, h in sorted(here.items())
        )
