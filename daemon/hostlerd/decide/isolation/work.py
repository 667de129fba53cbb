"""The kernel's own work off a domain's CPUs: work queues, receive steering, the lockup watchdog, statistics, timers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hostlerd.decide.attributes import Wish
from hostlerd.decide.isolation.isolated import Isolated, cpus_of, whom
from hostlerd.model.cpuset import CpuSet, format_cpu_list, format_cpu_mask, parse_cpu_list, parse_cpu_mask
from hostlerd.model.observed import Observed
from hostlerd.model.profile import KEEP, Isolation
from hostlerd.model.tuning import (
    HALT_POLL,
    KSM,
    NUMA_BALANCING,
    SPLIT_LOCK,
    STAT_INTERVAL,
    TIMER_MIGRATION,
    WATCHDOG,
    WORKQUEUE_MASKS,
    Tuning,
)


def work_wishes(observed: Observed, tuning: Tuning, isolated: Sequence[Isolated]) -> Iterator[Wish]:
    masks: tuple[tuple[str, Sequence[str], Callable[[Isolation], bool]], ...] = (
        ("unbound work queues", WORKQUEUE_MASKS, lambda how: how.workqueues),
        ("receive steering", tuning.steering, lambda how: how.rps),
        ("the lockup watchdog", (WATCHDOG,), lambda how: how.watchdog),
    )
    for what, paths, wants in masks:
        names = whom(isolated, wants)
        host = observed.topology.online - cpus_of(isolated, wants)
        for path in paths if names else ():
            now = observed.attributes.get(path)
            if now:
                why = f"{what} keep off the CPUs of {names}"
                yield Wish(path=path, value=_without(observed, path, now, host), why=why)
    yield from _numbers(isolated)


def _without(observed: Observed, path: str, now: str, host: CpuSet) -> str:
    """The mask as it was before, less what is not the host's now, in the form that this file has."""
    record = observed.ledger.attributes.get(path)
    before = now if record is None else record.before
    if path == WATCHDOG:
        return format_cpu_list((parse_cpu_list(before) & host) or host)
    return format_cpu_mask((parse_cpu_mask(before) & host) or host, like=now)


def _numbers(isolated: Sequence[Isolated]) -> Iterator[Wish]:
    """Of what there is one of on a host the strongest wish counts."""
    numbers: tuple[tuple[str, str, Callable[[Isolation], int]], ...] = (
        (STAT_INTERVAL, "statistics are gathered less often", lambda how: how.stat_interval),
        (TIMER_MIGRATION, "timers are not pulled over", lambda how: KEEP if how.timer_migration else 0),
        (HALT_POLL, "a vCPU that halts is waited for", lambda how: how.halt_poll_ns),
        (SPLIT_LOCK, "split locks of guests", lambda how: how.split_lock_mitigate),
        (NUMA_BALANCING, "memory that VFIO pinned cannot move", lambda how: how.numa_balancing),
        (KSM, "merging of pages", lambda how: how.ksm),
    )
    for path, what, number in numbers:
        values = [number(one.how) for one in isolated if number(one.how) != KEEP]
        if values:
            names = whom(isolated, lambda how, number=number: number(how) != KEEP)  # type: ignore[misc]
            yield Wish(path=path, value=str(max(values)), why=f"{what}, for {names}", tolerated=UNSUPPORTED)


UNSUPPORTED = (22, 95)
"""EINVAL, EOPNOTSUPP: this kernel or this host does not have it."""
