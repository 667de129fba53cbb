"""Who is where: what is free in each bucket, who uses each L3 domain, and what everybody's plans cost together."""

from __future__ import annotations

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.layout import Layout
from hostlerd.decide.placement.pricing import Plan


class Ledger:
    """Who is where, by bucket and L3 domain, and the total cost. Plans are added and taken away.

    `spare`: CPUs of the host's reserve that may still be given away. `claims`: cores by bucket that running domains
    hold which are still to be placed; to take these is going to cost moves.
    """

    __slots__ = (
        "boot",
        "claims",
        "cost",
        "free",
        "l3",
        "layout",
        "loose",
        "spare",
        "touched",
        "users",
        "widths",
    )

    def __init__(self, layout: Layout, spare: int) -> None:
        self.layout = layout
        self.free = [len(b.cores) for b in layout.buckets]
        self.loose = [0] * len(layout.buckets)
        position = {l3: i for i, l3 in enumerate(layout.l3s)}
        self.l3 = [position[b.l3] for b in layout.buckets]
        self.widths = [b.width for b in layout.buckets]
        self.boot = layout.boot_bucket
        self.spare = spare
        self.users = [0] * len(position)
        must = {layout.host.l3_of[cpu] for cpu in layout.host.must if cpu in layout.host.l3_of}
        self.touched = [int(l3 in must) for l3 in layout.l3s]
        self.cost = 0
        self.claims = [0] * len(layout.buckets)

    def marks(self) -> list[int]:
        """What makes buckets with the same cores free different: claims, the use of their L3, and the boot core."""
        users, touched = self.users, self.touched
        marks = [
            (1 if users[i] else 0) + (2 if touched[i] else 0) + 8 * claims
            for i, claims in zip(self.l3, self.claims, strict=True)
        ]
        if self.boot is not None:
            marks[self.boot] += 4
        return marks

    def state(self) -> tuple[object, ...]:
        """What a domain's candidates and their costs depend on."""
        return (*self.free, *self.loose, self.spare, *self.marks())

    def fork(self) -> Ledger:
        twin = Ledger.__new__(Ledger)  # copy.copy is five times as slow, and this is called often
        twin.layout, twin.l3, twin.widths, twin.boot = self.layout, self.l3, self.widths, self.boot
        twin.free, twin.loose, twin.spare = self.free.copy(), self.loose.copy(), self.spare
        twin.users, twin.touched = self.users.copy(), self.touched.copy()
        twin.claims, twin.cost = self.claims, self.cost
        return twin

    def opens(self) -> list[int]:
        """Threads of shared cores that nobody has yet, by bucket."""
        return [-n % width for n, width in zip(self.loose, self.widths, strict=True)]

    def holds(self, plan: Plan) -> bool:
        """Whether a plan fits."""
        buckets = self.layout.buckets
        taken = sum(p.cores * buckets[p.bucket].width + p.loose for p in plan if buckets[p.bucket].scarce)
        return taken <= self.spare and all(
            self.free[part.bucket]
            >= part.cores + (self._opened(part.bucket, part.loose) if part.loose else 0)
            for part in plan
        )

    def effect(self, plan: Plan) -> int:
        """What adding a plan costs beyond the domain's own part."""
        cost = 0
        l3 = self.l3
        seen: set[int] = set()
        used: set[int] = set()
        for index, vcpus, _emulator, cores, loose in plan:
            here = l3[index]
            if here not in seen:
                seen.add(here)
                if not self.touched[here]:
                    cost += o.FREE_L3
            if here not in used and any(vcpus):
                used.add(here)
                if self.users[here]:
                    cost += o.L3_SHARED
            if loose:
                opened = self._opened(index, loose)
                cost += o.SMT * opened
                cores += opened  # noqa: PLW2901
            if index == self.boot and self.free[index] == cores:
                cost += o.CPU0
        return cost

    def outlook(self, plan: Plan) -> int:
        """An estimate of what a plan is going to cost those whose claims it takes."""
        taken = 0
        for part in plan:
            claims = self.claims[part.bucket]
            if claims:
                taken += max(0, part.cores + claims - self.free[part.bucket]) * self.widths[part.bucket]
        return 2 * o.MIGRATION * taken

    def _opened(self, index: int, loose: int) -> int:
        width = self.layout.buckets[index].width
        before = self.loose[index]
        return -(-(before + loose) // width) + -before // width

    def add(self, plan: Plan, own: int) -> None:
        self.cost += own + self.effect(plan)
        self._book(plan, 1)

    def remove(self, plan: Plan, own: int) -> None:
        self._book(plan, -1)
        self.cost -= own + self.effect(plan)

    def _book(self, plan: Plan, sign: int) -> None:
        l3 = self.l3
        buckets = self.layout.buckets
        used: set[int] = set()
        for index, vcpus, _emulator, cores, loose in plan:
            here = l3[index]
            if loose:
                width = buckets[index].width
                before = -(-self.loose[index] // width)
                self.loose[index] += sign * loose
                self.free[index] -= -(-self.loose[index] // width) - before
            self.free[index] -= sign * cores
            if buckets[index].scarce:
                self.spare -= sign * (cores * buckets[index].width + loose)
            self.touched[here] += sign
            if any(vcpus) and here not in used:
                used.add(here)
                self.users[here] += sign
