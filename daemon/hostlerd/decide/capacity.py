"""How many slices are left, and who has the others: for decisions and, in words, for refusals.

Pure. The kernel's figure is of the moment; what this very pass is going to make is taken off it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Protocol

from hostlerd.model.observed import Observed
from hostlerd.model.slices import MdevType


class _Wanted(Protocol):
    @property
    def parent(self) -> str: ...

    @property
    def type(self) -> str: ...


class Capacity:
    def __init__(self, observed: Observed, wanted: Iterable[_Wanted] = ()) -> None:
        self._observed = observed
        self._wanted = Counter((w.parent, w.type) for w in wanted)

    def left(self, kind: MdevType) -> int:
        return (kind.available or 0) - self._wanted[kind.parent, kind.id]

    def listing(self, types: Collection[MdevType]) -> str:
        """``mbochs-small on mbochs (63 left), ...``."""
        words = [f"{t.id} on {t.parent} ({max(0, self.left(t))} left)" for t in types]
        return ", ".join(words) or "no device that has mediated devices"

    def users(self) -> dict[str, str]:
        """UUIDs and VFs to the name of the domain that runs with them or has claimed them."""
        found: dict[str, str] = {}
        claims = [claim.definition for claim in self._observed.ledger.claims.values() if claim.prepared]
        for domain in (*(running.live for running in self._observed.snapshot.running), *claims):
            for thing in (*domain.mdev_uuids, *domain.pci_addresses):
                found.setdefault(thing, domain.name)
        return found

    def who_has_mdevs(self, parents: Collection[str]) -> str:
        """``: win11 has mbochs-large, nobody has mbochs-large``, or nothing."""
        users = self.users()
        return _words(
            [
                f"{users.get(m.uuid, 'no domain')} has {m.type or m.uuid}"
                for m in self._observed.slices.mdevs.values()
                if m.parent in parents
            ]
        )

    def who_has_vgpus(self, address: str) -> str:
        """Of the VFs of the same card."""
        users, functions = self.users(), self._observed.functions
        card = functions[address].physfn
        return _words(
            [
                f"{users.get(slot.address, 'no domain')} has type {slot.current} on {slot.address}"
                for slot in self._observed.slices.vgpus.values()
                if slot.current and functions[slot.address].physfn == card
            ]
        )


def _words(words: list[str]) -> str:
    return f": {', '.join(words)}" if words else ""
