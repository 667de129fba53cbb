"""The pins that differ from what they should be, for domains whose guest runs, and what becomes of their records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hostlerd.decide.pinning.floating import Lent, floats_on
from hostlerd.decide.pinning.ours import entry
from hostlerd.decide.pinning.tenant import Tenant
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.ledger import PinRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Pin, Placement

WIPED = "set again: a change of the host's cpusets wiped it, as Linux before 6.2 does"

Thread = Literal["vcpu", "iothread", "emulator"]


@dataclass(slots=True)
class Pins:
    """`gone`: UUIDs whose record can be closed: not before the domain has stopped, or the pins that we leave behind
    would be taken for somebody's. `confirmed`: records of which more is known now, without a step.
    """

    steps: list[Pin] = field(default_factory=list[Pin])
    gone: list[str] = field(default_factory=list[str])
    confirmed: list[PinRecord] = field(default_factory=list[PinRecord])


def decide_pins(
    observed: Observed,
    domains: Iterable[Tenant],
    placements: Mapping[str, Placement],
    housekeeping: CpuSet,
    loans: Sequence[Lent] = (),
) -> Pins:
    pins = Pins()
    present = set[str]()
    online = observed.topology.online
    for tenant in domains:
        present.add(tenant.uuid)
        if tenant.running is None or observed.ledger.untouchable(tenant.uuid):
            continue
        placement = placements.get(tenant.uuid) or Placement(uuid=tenant.uuid, vcpus=None)
        hands_off, crowded = tenant.mode == "off", housekeeping != online
        if placement.vcpus is None and tenant.begun is None and (hands_off or not crowded):
            continue
        host = floats_on(observed.topology, online if hands_off else housekeeping)
        targets = _targets(tenant, placement, host, () if hands_off else loans)
        steps, record = _differences(tenant, placement, targets, observed)
        pins.steps += steps
        if not steps and tenant.record is not None and record != tenant.record:
            pins.confirmed.append(record)
    pins.gone += [uuid for uuid in observed.ledger.pins if observed.snapshot.known and uuid not in present]
    return pins


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where one thread belongs. `now`: its pin in force; `before`: what is recorded of it."""

    thread: Thread
    index: int
    now: CpuSet | None
    before: str | None
    cpus: CpuSet
    why: str


def _targets(tenant: Tenant, placement: Placement, host: CpuSet, loans: Sequence[Lent]) -> list[_Target]:
    assert tenant.running is not None  # noqa: S101 - decide_pins asks for nobody else
    live, record = tenant.running.live, tenant.begun or PinRecord(uuid=tenant.uuid)
    if placement.vcpus is not None:
        spots = dict(zip(tenant.definition.present, placement.vcpus, strict=True))
        why = "its own CPU, nobody else's"
    else:
        spots = dict.fromkeys(tenant.free_vcpus, host.union(*(loan.cpus for loan in loans)))
        why = "shared domains float on the host's CPUs"
        if loans:
            why += f", and while they starve on what nobody uses ({'; '.join(loan.why for loan in loans)})"
    helpers = placement.emulator or host
    of_helpers = (
        "emulator and iothreads have CPUs of their own"
        if placement.emulator
        else "emulator and iothreads stay on the host's CPUs"
    )
    targets = [
        _Target(
            thread="vcpu",
            index=i,
            now=live.vcpu_pins.get(i),
            before=record.vcpus.get(i),
            cpus=spots[i],
            why=why,
        )
        for i in tenant.free_vcpus
    ]
    if not tenant.emulator_pinned:
        targets.append(
            _Target(
                thread="emulator",
                index=0,
                now=live.emulator_pins,
                before=record.emulator or None,
                cpus=helpers,
                why=of_helpers,
            )
        )
    return targets + [
        _Target(
            thread="iothread",
            index=i,
            now=live.iothread_pins.get(i),
            before=record.iothreads.get(i),
            cpus=helpers,
            why=of_helpers,
        )
        for i in tenant.free_iothreads
    ]


def _differences(
    tenant: Tenant, placement: Placement, targets: Sequence[_Target], observed: Observed
) -> tuple[list[Pin], PinRecord]:
    record = _record(tenant, placement, targets)
    affinity = observed.affinity.get(tenant.uuid, {})
    steps: list[Pin] = []
    for target in targets:
        now, why = target.now, target.why
        if now == target.cpus:
            real = affinity.get(target.index) if target.thread == "vcpu" else None
            # What the kernel forgets becomes wider; anything else is somebody's pin that the snapshot has not yet.
            if real is None or not real > target.cpus:
                continue
            now, why = real, WIPED
        name = f"{tenant.name}/{target.thread}" + ("" if target.thread == "emulator" else str(target.index))
        steps.append(
            Pin(
                object=name,
                before=None if now is None else format_cpu_list(now),
                after=format_cpu_list(target.cpus),
                why=why,
                uuid=tenant.uuid,
                thread=target.thread,
                index=target.index,
                cpus=target.cpus,
                record=record if record != tenant.record else None,
            )
        )
    return steps, record


def _record(tenant: Tenant, placement: Placement, targets: Sequence[_Target]) -> PinRecord:
    """A thread that its user has pinned by hand is not in it any more.

    One that is unplugged is: its pin comes back with it. So is one that the definition pins from its next start on:
    until then it is where we put it.
    """
    assert tenant.running is not None  # noqa: S101 - decide_pins asks for nobody else
    entries = {(t.thread, t.index): entry(t.now, t.before, t.cpus) for t in targets}
    before = tenant.record or PinRecord(uuid=tenant.uuid)
    hand, there = tenant.hand, tenant.running.live.iothread_ids
    vcpus = {i: text for i, text in before.vcpus.items() if i not in hand.vcpus}
    iothreads = {i: text for i, text in before.iothreads.items() if i in there and i not in hand.iothreads}
    vcpus |= {i: text for (thread, i), text in entries.items() if thread == "vcpu"}
    iothreads |= {i: text for (thread, i), text in entries.items() if thread == "iothread"}
    return PinRecord(
        uuid=tenant.uuid,
        vcpus=dict(sorted(vcpus.items())),
        iothreads=dict(sorted(iothreads.items())),
        emulator=entries.get(("emulator", 0), before.emulator if hand.emulator is None else ""),
        idle=format_cpu_list(placement.idle),
        own=format_cpu_list(placement.emulator),
        away=format_cpu_list(vcpus.keys() - tenant.running.live.present),
    )
