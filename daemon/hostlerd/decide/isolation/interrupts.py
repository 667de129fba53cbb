"""Where interrupts are served: the host's on the host's CPUs, a guest's near it.

Pure. An interrupt that was on some of the host's CPUs only stays on these. One that the kernel manages for a queue
cannot be moved and harms nobody: it comes to a CPU that submitted something itself. A guest's vectors come when its
driver wants them, are gone when it restarts, and no event tells (vfio_pci_intrs.c): they are looked for a few times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hostlerd.decide.attributes import Wish
from hostlerd.decide.isolation.isolated import Isolated, cpus_of, whom
from hostlerd.model.cpuset import CpuSet, format_cpu_list, format_cpu_mask, parse_cpu_list, parse_cpu_mask
from hostlerd.model.observed import Observed
from hostlerd.model.tuning import DEFAULT_AFFINITY, Interrupt, Tuning

MANAGED = (1, 5, 13)
"""EPERM, EIO, EACCES: the kernel manages it (kernel/irq/proc.c, write_irq_affinity; EIO before 6.12). Since then its
file has no right to be written, which the owner cannot pass over without CAP_DAC_OVERRIDE."""


def interrupt_wishes(observed: Observed, tuning: Tuning, isolated: Sequence[Isolated]) -> Iterator[Wish]:
    host = observed.topology.online - cpus_of(isolated, lambda how: how.interrupts)
    moved = whom(isolated, lambda how: how.interrupts)
    why = f"interrupts of the host keep off the CPUs of {moved}"
    if moved and (now := observed.attributes.get(DEFAULT_AFFINITY)):
        before = parse_cpu_mask(_before(observed, DEFAULT_AFFINITY, now))
        yield Wish(path=DEFAULT_AFFINITY, value=format_cpu_mask((before & host) or host, like=now), why=why)
    born = _born(observed)
    owners = {address: one for one in isolated for address in one.functions}
    for interrupt in tuning.interrupts:
        now = observed.attributes.get(interrupt.path)
        if now is None:
            continue
        owner = owners.get(interrupt.function or "")
        if owner is not None:
            target = _near(observed, owner, host)
            why_there = f"an interrupt of {owner.name}'s own device"
        elif moved:
            target = (parse_cpu_list(_before(observed, interrupt.path, now, interrupt.name)) & host) or host
            why_there = why
        else:
            continue
        if target:
            yield Wish(
                path=interrupt.path,
                value=format_cpu_list(target),
                why=why_there,
                identity=interrupt.name,
                tolerated=MANAGED,
                before=born[1] if now == born[0] and owner is None else None,
            )


def _born(observed: Observed) -> tuple[str, str]:
    """The affinity of an interrupt that was requested while our default is in force, and what it would have been."""
    record, now = observed.ledger.attributes.get(DEFAULT_AFFINITY), observed.attributes.get(DEFAULT_AFFINITY)
    if record is None or not now or now == record.before or now not in record.ours:
        return "", ""
    online = observed.topology.online
    return format_cpu_list(parse_cpu_mask(now) & online), format_cpu_list(
        parse_cpu_mask(record.before) & online
    )


def _before(observed: Observed, path: str, now: str, identity: str = "") -> str:
    record = observed.ledger.attributes.get(path)
    return record.before if record is not None and record.identity == identity else now


def _near(observed: Observed, owner: Isolated, host: CpuSet) -> CpuSet:
    match owner.how.vfio_interrupts:
        case "node":
            near = frozenset(cpu.id for cpu in observed.topology.cpus if cpu.node in owner.nodes)
            return (near & host) or owner.cpus
        case "domain":
            return owner.cpus
        case "host":
            return host
        case "keep":
            return frozenset()


def immovable(observed: Observed, interrupts: Sequence[Interrupt]) -> int:
    """How many the kernel did not let us move."""
    return sum(interrupt.path in observed.immovable for interrupt in interrupts)


def moved(observed: Observed, interrupts: Sequence[Interrupt]) -> int:
    ours = observed.ledger.attributes.keys() - observed.immovable
    return sum(interrupt.path in ours for interrupt in interrupts)
