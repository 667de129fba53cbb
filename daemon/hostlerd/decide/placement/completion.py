"""From vCPUs by bucket to a whole plan: cores, emulator CPUs, and in tight times threads of shared cores.

Normally a domain owns whole cores and siblings it has no use for stay idle; the first use for them is its emulator.
When that leaves somebody without CPUs, odd threads may go on a core that another owner has a thread of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hostlerd.decide.placement.ledger import Ledger
from hostlerd.decide.placement.pricing import Part, Plan, Pricing


@dataclass(slots=True)
class _Share:
    """A part in the making."""

    vcpus: Sequence[int]
    emulator: int = 0
    cores: int = 0
    loose: int = 0


class Helpers(NamedTuple):
    """Where emulator CPUs go. `siblings`: first on siblings that would stay idle. `cost`: then to buckets that cost so
    much, rather than to the cheapest. `apart`: away from the vCPUs' buckets rather than with them.
    """

    wanted: int
    siblings: bool = True
    apart: bool = False
    cost: int | None = None


@dataclass(slots=True)
class Completion:
    """One plan in the making. `free`: whole cores by bucket; `open`: threads left on shared cores; `spare`: in all."""

    pricing: Pricing
    ledger: Ledger
    free: list[int] = field(init=False)
    open: list[int] = field(init=False)
    spare: int = field(init=False)
    shares: dict[int, _Share] = field(init=False)

    def __post_init__(self) -> None:
        self.free = self.ledger.free.copy()
        self.open = self.ledger.opens()
        self.spare = self.ledger.spare
        self.shares = {}

    def plan(
        self, counts: Mapping[int, Sequence[int]], helpers: Helpers, *, tight: bool = False, fold: int = 0
    ) -> Plan | None:
        """None where it does not fit. `tight`: no sibling stays idle, odd threads share a core.

        `fold`: how many cores less than they might have isolated vCPUs get, in tight times.
        """
        for index, vcpus in counts.items():
            share = self.shares[index] = _Share(vcpus)
            fits = self._tight(index, share, fold) if tight else self._whole(index, share)
            if not fits:
                return None
        if self.spare < 0:
            return None
        wanted = helpers.wanted
        if wanted and helpers.siblings:
            wanted = self._siblings(wanted)
        if wanted:
            self._elsewhere(wanted, helpers, tight=tight)
        return tuple(
            Part(b, tuple(s.vcpus), s.emulator, s.cores, s.loose) for b, s in sorted(self.shares.items())
        )

    def _whole(self, index: int, share: _Share) -> bool:
        cores = self.pricing.cores(self.pricing.layout.buckets[index], share.vcpus, 0)
        self._use(index, share, cores, 0)
        return self.free[index] >= 0

    def _tight(self, index: int, share: _Share, fold: int) -> bool:
        width = self.pricing.layout.buckets[index].width
        total = sum(share.vcpus)
        if self.pricing.need.isolated:
            # As few vCPUs together on a core as can be.
            cores = min(total, self.free[index], self._spare(index) // width)
            if cores * width >= total:
                cores = max(cores - fold, -(-total // width))
                self._use(index, share, cores, 0)
                return True
        cores = min(total // width, self.free[index])
        self._use(index, share, cores, total - cores * width)
        return self.free[index] >= 0

    def _use(self, index: int, share: _Share, cores: int, loose: int) -> None:
        width = self.pricing.layout.buckets[index].width
        opened = -(min(0, self.open[index] - loose) // width)
        self.free[index] -= cores + opened
        self.open[index] += opened * width - loose
        if self.pricing.layout.buckets[index].scarce:
            self.spare -= cores * width + loose
        share.cores += cores
        share.loose += loose

    def _spare(self, index: int) -> int:
        """CPUs of a bucket that the host's reserve lets go."""
        bucket = self.pricing.layout.buckets[index]
        return self.spare if bucket.scarce else len(bucket.cores) * bucket.width

    def _siblings(self, wanted: int) -> int:
        """Emulator CPUs on siblings that would stay idle; the number still wanted."""
        for index, share in self.shares.items():
            idle = share.cores * self.pricing.layout.buckets[index].width - sum(share.vcpus) + share.loose
            share.emulator = min(wanted, max(0, idle))
            wanted -= share.emulator
        return wanted

    def _elsewhere(self, wanted: int, helpers: Helpers, *, tight: bool) -> None:
        """The rest: near, unclaimed, then with the vCPUs and where most is free, or the other way round."""
        apart, buckets, costs = helpers.apart, self.pricing.layout.buckets, self.pricing.emulator
        touched, l3, claims = self.ledger.touched, self.ledger.l3, self.ledger.claims
        away = self.pricing.away(
            frozenset(buckets[b].node for b, share in self.shares.items() if any(share.vcpus))
        )
        order = sorted(
            (b.index for b in buckets if self.free[b.index] > 0 or self.open[b.index]),
            key=lambda b: (
                helpers.cost is not None and costs[b] != helpers.cost,
                costs[b],
                away[buckets[b].node],
                claims[b] >= self.free[b] > 0,
                (b in self.shares) == apart,
                b == self.pricing.layout.boot_bucket,
                apart and not touched[l3[b]],
                self.free[b] * (apart * 2 - 1),
                b,
            ),
        )
        for index in order:
            width = self.pricing.layout.buckets[index].width
            share = self.shares.get(index) or _Share([0] * len(self.pricing.sizes))
            if tight:
                take = min(wanted, self._spare(index), self.free[index] * width + self.open[index])
                self._use(index, share, take // width, take % width)
                if self.free[index] < 0:
                    # Not enough open threads after all: one whole core less.
                    self._use(index, share, -1, 0)
                    take -= width
            else:
                cores = min(-(-wanted // width), self.free[index], self._spare(index) // width)
                take = min(wanted, cores * width)
                self._use(index, share, cores, 0)
            if take > 0:
                share.emulator += take
                self.shares[index] = share
                wanted -= take
            if not wanted:
                return
