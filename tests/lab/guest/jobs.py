"""The main job's checks, which several scenarios share: a domain runs on devices and CPUs of its own, then all is back.

`RUNNING` and `RETURNED` are the names a scenario puts into its decorator for the functions below.
"""

from collections.abc import Collection, Sequence

from . import cpus, hooks, pci, snapshot
from .domains import Domain
from .programs import holds
from .report import Report

PIN_LIMIT = 60.0

RUNNING = (
    "on VFIO before libvirt's turn",
    "on VFIO while it runs",
    "each vCPU has a CPU of its own",
    "siblings on siblings",
    "one L3",
    "the host's slices keep off its CPUs",
    "machine.slice is wide",
    "emulator and workers on the host's CPUs",
    "two CPUs are left to the host",
)
RETURNED = ("drivers and overrides as they were", "slices as they were")


def settled(domain: str) -> cpus.Threads:
    """The domain's threads once all are where CPUs of its own put them, or as they are at the limit."""

    def done() -> bool:
        threads = cpus.threads(domain)
        return threads.single and not overlaps(threads.pinned) and not threads.helpers & threads.pinned

    holds(done, PIN_LIMIT)
    return cpus.threads(domain)


def overlaps(taken: cpus.Set) -> dict[str, list[int]]:
    """The CPUs of `taken` that the host's own slices may use, by slice."""
    found = {unit: sorted(cpus.effective(unit) & taken) for unit in cpus.HOST_SLICES}
    return {unit: both for unit, both in found.items() if both}


def check_running(report: Report, domain: Domain, functions: Collection[str]) -> cpus.Threads:
    """Answer all of RUNNING for a domain that has started."""
    prepared = hooks.on_vfio_at(domain.name, "prepare")
    report.check(RUNNING[0], prepared is not None and prepared >= set(functions), prepared)
    report.check(RUNNING[1], all(map(pci.on_vfio, functions)), pci.describe(list(functions)))
    threads = settled(domain.name)
    slices = {unit: sorted(found) for unit, found in cpus.slices().items()}
    single = report.check(RUNNING[2], threads.single and len(threads.vcpus) == domain.vcpus, threads)
    report.check(RUNNING[3], single and siblings_kept(threads, domain.threads), threads)
    report.check(RUNNING[4], single and threads.pinned <= cpus.l3(threads.cpu(0)), threads)
    report.check(RUNNING[5], threads.single and not overlaps(threads.pinned), slices)
    report.check(RUNNING[6], cpus.effective("machine.slice") == cpus.online(), slices)
    report.check(RUNNING[7], threads.emulator and not threads.helpers & threads.pinned, threads)
    report.check(RUNNING[8], len(cpus.online() - threads.pinned) >= 2, threads)
    return threads


def siblings_kept(threads: cpus.Threads, per_core: int) -> bool:
    """The vCPUs that the guest takes for siblings are siblings of the host.

    With one thread a core nothing is asked of them.
    """
    return all(
        threads.cpu(vcpu) in cpus.siblings(threads.cpu(vcpu - vcpu % per_core))
        for vcpu in sorted(threads.vcpus)
    )


def check_returned(report: Report, before: snapshot.Snapshot, names: Sequence[str] = RETURNED) -> None:
    """Answer the two checks of RETURNED, or those named instead."""
    left = snapshot.differences(before)
    slices = [line for line in left if line.startswith("slices")]
    report.check(names[0], len(left) == len(slices), left)
    report.check(names[1], not slices, slices)
