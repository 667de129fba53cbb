"""Which of the pins in force are ours: the record says so, or what we wrote into the definition; nothing else does.

A thread's entry is one or more CPU lists with spaces between, the last the one we want. It is journalled before the pin
is set, so until that is seen to be in force every one of them may be, and all are ours. Seen in force, the last alone
is left: a user may then choose any of the others.
"""

from __future__ import annotations

from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list
from hostlerd.model.domains import Definition
from hostlerd.model.edits import written_pins
from hostlerd.model.ledger import PinRecord
from hostlerd.model.observed import Observed


def is_ours(cpus: CpuSet | None, entry: str | None) -> bool:
    return cpus is not None and entry is not None and format_cpu_list(cpus) in entry.split()


def wanted(entry: str | None) -> CpuSet:
    """The last of an entry's lists: where the thread is, or goes."""
    return parse_cpu_list(entry.split()[-1]) if entry else frozenset()


def entry(now: CpuSet | None, before: str | None, wanted: CpuSet) -> str:
    """What to record of a thread that is pinned to `now` and is to be on `wanted`."""
    text, known = format_cpu_list(wanted), (before or "").split()
    if now is not None and format_cpu_list(now) == (known or [text])[-1]:
        known = known[-1:]
    return " ".join([*(word for word in known if word != text), text] if now != wanted else [text])


def saved_pins(start: Definition, source: Definition) -> PinRecord:
    """Of a guest that comes back from where it was saved: pins that it comes with and its definition does not have.

    libvirt keeps the live XML with the guest (qemuDomainSaveInternal), and so the pins of that time, which are mostly
    ours; what a user had pinned by hand ended when it stopped.
    """
    emulator = start.emulator_pins
    return PinRecord(
        uuid=start.uuid,
        vcpus={
            i: format_cpu_list(cpus)
            for i, cpus in start.vcpu_pins.items()
            if cpus != source.vcpu_pins.get(i, source.cpuset)
        },
        iothreads={
            i: format_cpu_list(cpus)
            for i, cpus in start.iothread_pins.items()
            if cpus != source.iothread_pins.get(i)
        },
        emulator=""
        if emulator is None or emulator in (source.emulator_pins, source.cpuset)
        else format_cpu_list(emulator),
    )


def begun_pins(observed: Observed, uuid: str) -> PinRecord | None:
    """The record; as long as there is none, what hostler wrote into the definition for the domain to begin with.

    Once there is one the definition says nothing more: a user may choose by hand what a thread began with, which takes
    it out of the record.
    """
    record, written = observed.ledger.pins.get(uuid), written_pins(observed.edits, uuid)
    if record is not None or not written:
        return record
    return PinRecord(uuid=uuid, vcpus=dict(written.vcpus), emulator=written.emulator)
