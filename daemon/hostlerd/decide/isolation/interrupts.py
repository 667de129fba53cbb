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
from hostlerd.model.tuning import DEFAULT_AFFINITY, REFUSED, Interrupt, Tuning


def interrupt_wishes(observed: Observed, tuning: Tuning, isolated: Sequence[Isolated]) -> Iterator[Wish]:
    """The default affinity last, and so put back first: what is requested afterwards begins with it."""
    host = observed.topology.online - cpus_of(isolated, lambda how: how.interrupts)
    moved = whom(isolated, lambda how: how.interrupts)
    why = f"interrupts of the host keep off the CPUs of {moved}"
    default = _Default(observed, host)
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
                tolerated=REFUSED,
                before=default.before(now) if owner is None else None,
            )
    if moved and default.now:
        value = format_cpu_mask(default.target, like=default.now)
        yield Wish(path=DEFAULT_AFFINITY, value=value, why=why)


class _Default:
    """The affinity that interrupts begin with, and what is to be recorded of those that have just that.

    Before it is set they were so, which has to be known afterwards: then one that has it began with it, and would have
    begun with what it was before.
    """

    def __init__(self, observed: Observed, host: CpuSet) -> None:
        self.now = observed.attributes.get(DEFAULT_AFFINITY) or ""
        record, online = observed.ledger.attributes.get(DEFAULT_AFFINITY), observed.topology.online
        first = parse_cpu_mask(record.before if record is not None else self.now)
        self.target = (first & host) or host
        ours = record is not None and self.now != record.before and self.now in record.ours
        self._begins = format_cpu_list((parse_cpu_mask(self.now) if ours else self.target) & online)
        self._would = format_cpu_list(first & online) if ours else self._begins

    def before(self, now: str) -> str | None:
        return self._would if self.now and now == self._begins else None


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
