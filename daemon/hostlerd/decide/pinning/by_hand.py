"""Pins that a user made while the domain runs (`virsh vcpupin --live`): what is in force, not ours and not the
definition's.

They win until the domain stops, when libvirt forgets them. libvirt tells of them (VIR_DOMAIN_EVENT_ID_TUNABLE:
qemuDomainPinVcpuLive, qemuDomainPinEmulator, qemuDomainPinIOThread), and its live XML keeps them, so that nothing has
to be remembered: a daemon that was away sees them as one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hostlerd.decide.pinning.ours import is_ours
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.domains import NO_PINS, Definition
from hostlerd.model.ledger import PinRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    vcpus: Mapping[int, CpuSet] = field(default_factory=lambda: NO_PINS)
    iothreads: Mapping[int, CpuSet] = field(default_factory=lambda: NO_PINS)
    emulator: CpuSet | None = None

    @property
    def sets(self) -> tuple[CpuSet, ...]:
        emulator = () if self.emulator is None else (self.emulator,)
        return (*self.vcpus.values(), *self.iothreads.values(), *emulator)

    def told(self) -> str:
        """For people; empty where there are none."""
        threads = [
            *(f"vCPU {i} to {format_cpu_list(cpus)}" for i, cpus in self.vcpus.items()),
            *(
                f"its emulator to {format_cpu_list(cpus)}"
                for cpus in ([] if self.emulator is None else [self.emulator])
            ),
            *(f"iothread {i} to {format_cpu_list(cpus)}" for i, cpus in self.iothreads.items()),
        ]
        return f"pinned by hand, and left so until it stops: {', '.join(threads)}" if threads else ""


NOTHING = ByHand()


def by_hand(live: Definition, source: Definition, record: PinRecord | None) -> ByHand:
    """`source`: the definition as its user wrote it."""
    ours = record or PinRecord(uuid=live.uuid)

    def users(
        pins: Mapping[int, CpuSet], own: Mapping[int, CpuSet], entries: Mapping[int, str]
    ) -> dict[int, CpuSet]:
        return {i: c for i, c in pins.items() if c != own.get(i) and not is_ours(c, entries.get(i))}

    present = {i: live.vcpu_pins[i] for i in live.present if i in live.vcpu_pins}
    fallback = dict.fromkeys(present, source.cpuset) if source.cpuset else {}
    emulator = live.emulator_pins
    if emulator in (source.emulator_pins, source.cpuset) or is_ours(emulator, ours.emulator):
        emulator = None
    return ByHand(
        vcpus=users(present, {**fallback, **source.vcpu_pins}, ours.vcpus),
        iothreads=users(live.iothread_pins, source.iothread_pins, ours.iothreads),
        emulator=emulator,
    )
