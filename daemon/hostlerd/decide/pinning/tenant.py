"""A domain as placement sees it: who it is, what is wished for it, and which of its threads its user has pinned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from hostlerd.decide.pinning.by_hand import NOTHING, ByHand, by_hand
from hostlerd.decide.pinning.ours import begun_pins, is_ours, saved_pins
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.domains import Definition, Running
from hostlerd.model.edits import users_own
from hostlerd.model.ledger import Claim, PinRecord
from hostlerd.model.observed import Observed
from hostlerd.model.settings import DomainPolicy, Settings

Mode = Literal["dedicated", "shared", "off"]


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """`definition`: as it is now, or is about to start; `running` is None until its guest runs.

    `pins`: of vCPUs, by the definition or by hand. `emulator_pinned`, `iothreads_pinned`: the same of the others.
    `begun`: the record, with what hostler wrote into its definition where there is none (ours.begun_pins).
    """

    definition: Definition
    policy: DomainPolicy
    mode: Mode
    pins: Mapping[int, CpuSet]
    emulator_pinned: bool
    iothreads_pinned: frozenset[int]
    hand: ByHand
    record: PinRecord | None
    begun: PinRecord | None
    running: Running | None

    @property
    def uuid(self) -> str:
        return self.definition.uuid

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def explicit(self) -> CpuSet:
        """The CPUs that its user's pins of vCPUs name."""
        return frozenset().union(*self.pins.values())

    @cached_property
    def free_vcpus(self) -> list[int]:
        """Those that nobody pinned."""
        return [i for i in self.definition.present if i not in self.pins]

    @property
    def free_iothreads(self) -> list[int]:
        return [i for i in self.definition.iothread_ids if i not in self.iothreads_pinned]

    @property
    def paused(self) -> bool:
        """None of its vCPUs runs."""
        return self.running is not None and self.running.state in ("paused", "pmsuspended")


def tenants(observed: Observed, settings: Settings) -> list[Tenant]:
    """Running domains and prepared ones, by UUID."""
    found: dict[str, Tenant] = {}
    claims = observed.ledger.claims
    for running in observed.snapshot.running:
        claim = claims.get(running.uuid)
        source = running.definition or (claim.definition if claim else None)
        record = observed.ledger.pins.get(running.uuid)
        if source is None:
            source = _without_ours(running.live, record)
        source, begun = users_own(source, observed.edits), begun_pins(observed, running.uuid)
        if begun is None and claim is not None and claim.saved:
            begun = saved_pins(claim.definition, source)
        tenant = _tenant(running.live, source, settings, by_hand(running.live, source, begun))
        found[running.uuid] = replace(tenant, running=running, record=record, begun=begun)
    for claim in claims.values():
        if claim.uuid not in found:
            source = users_own(_as_defined(observed, claim), observed.edits)
            tenant = _tenant(claim.definition, source, settings, NOTHING)
            found[claim.uuid] = replace(tenant, begun=begun_pins(observed, claim.uuid))
    return [found[uuid] for uuid in sorted(found)]


def _as_defined(observed: Observed, claim: Claim) -> Definition:
    """Its definition, where it does not begin as that says."""
    if not claim.saved:
        return claim.definition
    return next((d for d in observed.snapshot.inactive if d.uuid == claim.uuid), claim.definition)


def _without_ours(live: Definition, record: PinRecord | None) -> Definition:
    """A transient domain we did not see start: what is pinned and not by us is the user's."""
    ours = record or PinRecord(uuid=live.uuid)
    return replace(
        live,
        vcpu_pins={i: c for i, c in live.vcpu_pins.items() if not is_ours(c, ours.vcpus.get(i))},
        iothread_pins={i: c for i, c in live.iothread_pins.items() if not is_ours(c, ours.iothreads.get(i))},
        emulator_pins=None if is_ours(live.emulator_pins, ours.emulator) else live.emulator_pins,
    )


def _tenant(definition: Definition, source: Definition, settings: Settings, hand: ByHand) -> Tenant:
    """One that does not run, and of whose threads nothing is recorded."""
    policy = settings.domain(definition.name, definition.uuid, definition.wishes)
    mode: Mode = (
        policy.cpus if policy.cpus != "auto" else ("dedicated" if definition.pci_addresses else "shared")
    )
    pins = {i: source.vcpu_pins.get(i, source.cpuset) for i in definition.present}
    return Tenant(
        definition=definition,
        policy=policy,
        mode=mode,
        pins={i: cpus for i, cpus in pins.items() if cpus} | dict(hand.vcpus),
        emulator_pinned=source.emulator_pins is not None or bool(source.cpuset) or hand.emulator is not None,
        iothreads_pinned=frozenset(source.iothread_pins) | frozenset(hand.iothreads),
        hand=hand,
        record=None,
        begun=None,
        running=None,
    )
