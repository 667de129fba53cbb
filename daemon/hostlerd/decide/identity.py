"""Is the card that policy means the one that is there?

Pure. Buses are numbered anew when a card comes or goes, so an address alone may mean another card after a restart
(QubesOS issues 7792 and 8681). What was at such an address when its policy was first applied is remembered; another one
there is refused, not guessed. Matches by path, serial or vendor and device need no such care.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hostlerd.model.devices import Function
from hostlerd.model.identity import Known, identity
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Refusal
from hostlerd.model.settings import DevicePolicy, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """`was`: the identity of the card that policy `name` was first applied to."""

    address: str
    name: str
    was: str
    now: str

    def refusal(self, claim: str | None = None) -> Refusal:
        return Refusal(
            object=self.address,
            reason=f"{self.address} is not the card that policy {self.name!r} was made for: that was "
            f"{self.was.rpartition(':')[0]}, this is {self.now.rpartition(':')[0]}",
            remedy=f"match it by path or by vendor and device; or say `hostler retry {self.address}` if it is meant",
            claim=claim,
        )


def stranger(observed: Observed, settings: Settings, function: Function) -> Stranger | None:
    policy = settings.device(function)
    known = observed.known.get(function.address)
    if policy is None or known is None or not function.readable or not _by_address_alone(policy):
        return None
    now = identity(function)
    if now == known.identity:
        return None
    return Stranger(address=function.address, name=policy.name, was=known.identity, now=now)


def learned(observed: Observed, settings: Settings) -> Mapping[str, Known]:
    """What is to be remembered and is not yet: cards that policy names, and the serials that their drivers tell."""
    found: dict[str, Known] = {}
    for address, function in observed.functions.items():
        policy = settings.device(function)
        if policy is None or not function.readable:
            continue
        known = observed.known.get(address)
        if known is not None and known.identity != identity(function) and _by_address_alone(policy):
            continue  # a stranger
        now = Known(identity=identity(function), serial=function.serial)
        if now != known and (known is None or now.identity != known.identity or now.serial is not None):
            found[address] = now
    return found


def _by_address_alone(policy: DevicePolicy) -> bool:
    match = policy.match
    return match.address is not None and (match.vendor, match.serial, match.path) == (None, None, None)
