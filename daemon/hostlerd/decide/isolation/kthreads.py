"""Threads of the kernel that are bound to no CPU, off the CPUs of domains that want it.

Pure. Linux 7.0 does it by itself for isolated partitions and keeps their nodes (HK_TYPE_DOMAIN, merge d16738a4); there
they are left alone. New ones begin where the kernel puts them and are found by the next pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostlerd.decide.isolation.isolated import Isolated, cpus_of, whom
from hostlerd.model.cpuset import format_cpu_list, parse_cpu_list
from hostlerd.model.ledger import ThreadRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import MoveThread
from hostlerd.model.tuning import KernelThread, Tuning

BY_ITSELF = (7, 0)
KTHREADD = 2
"""Those that it makes begin where it may run."""


def decide_kthreads(
    observed: Observed, tuning: Tuning, isolated: Sequence[Isolated]
) -> tuple[list[MoveThread], list[str]]:
    """Steps, and the threads whose record can be closed."""
    wants = cpus_of(isolated, lambda how: how.kthreads)
    if observed.kernel >= BY_ITSELF:
        wants = frozenset()
    host = observed.topology.online - wants
    why = f"threads of the kernel keep off the CPUs of {whom(isolated, lambda how: how.kthreads)}"
    steps: list[MoveThread] = []
    settled: list[str] = []
    there = {thread.object: thread for thread in tuning.threads}
    for name, thread in there.items() if wants else ():
        record = _of(observed, thread)
        if observed.untouchable(name) or (
            record is None and len(thread.cpus) == 1 and thread.pid != KTHREADD
        ):
            continue
        before = parse_cpu_list(record.before) if record is not None else thread.cpus
        target = (before & host) or host
        if thread.cpus != target and name not in observed.immovable:
            steps.append(_step(thread, format_cpu_list(target), why, record))
    for name, record in () if wants else observed.ledger.threads.items():
        thread_now = there.get(name)
        now = format_cpu_list(thread_now.cpus) if thread_now is not None else ""
        if observed.untouchable(name):
            continue
        if thread_now is None or thread_now.start != record.start or now == record.before:
            settled.append(name)
        elif now not in record.ours or name in observed.immovable:
            settled.append(name)  # somebody else's by now, or it cannot go back: its CPUs are off line
        else:
            steps.append(_step(thread_now, record.before, "nobody needs it any more", record))
    return steps, settled


def _of(observed: Observed, thread: KernelThread) -> ThreadRecord | None:
    record = observed.ledger.threads.get(thread.object)
    return record if record is not None and record.start == thread.start else None


def _step(thread: KernelThread, after: str, why: str, record: ThreadRecord | None) -> MoveThread:
    before = record.before if record is not None else format_cpu_list(thread.cpus)
    ours = record.ours if record is not None else ()
    return MoveThread(
        object=thread.object,
        before=format_cpu_list(thread.cpus),
        after=after,
        why=why,
        pid=thread.pid,
        start=thread.start,
        record=ThreadRecord(
            thread=thread.object,
            start=thread.start,
            before=before,
            ours=tuple(dict.fromkeys((*ours, after))),
        ),
    )
