"""Why the host must not sleep just now, in words for whoever tries.

Pure. A card forgets what a guest has loaded into it when the host sleeps, and no guest is told that its hardware was
switched off; a handoff that is cut by sleep goes on after it, but the host would sleep with a card that is nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable

from hostlerd.decide.ownership import Ownership
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Override, Probe, Step, Unbind
from hostlerd.model.settings import Settings

MOST = 3
"""Cards that are named."""


def keeps_awake(observed: Observed, settings: Settings, own: Ownership, steps: Iterable[Step]) -> str:
    """Empty where nothing speaks against it."""
    had = _had(observed, own)
    moving = [step.object for step in steps if isinstance(step, Override | Unbind | Probe)]
    words: list[str] = []
    if settings.suspend == "block":
        words = [f"{name} has {_named(what)}" for name, what in had.items()]
        known = {address for addresses in had.values() for address in addresses}
        moving = [address for address in moving if address not in known]
    if moving:
        words.append(f"{_named(moving)} is being handed over")
    return "; ".join(words)


def _had(observed: Observed, own: Ownership) -> dict[str, list[str]]:
    """Domain, or what else has a card on VFIO open, to what it has."""
    had: dict[str, list[str]] = {}
    for address in sorted(own.holder):
        if address in observed.functions:
            had.setdefault(own.holder[address].name, []).append(address)
    for domain in observed.snapshot.running:
        for hostdev in domain.live.hostdevs:
            if hostdev.kind == "mdev" and hostdev.uuid:
                had.setdefault(domain.name, []).append(f"the slice {hostdev.uuid}")
    return had


def _named(what: Iterable[str]) -> str:
    """Of a card its first function stands for all."""
    cards = {one.rpartition(".")[0] or one: one for one in sorted(set(what), reverse=True)}
    names = sorted(cards.values())
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more
