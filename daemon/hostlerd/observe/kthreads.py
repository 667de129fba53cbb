"""Threads of the kernel that may be moved."""

from __future__ import annotations

from hostlerd.host import Files
from hostlerd.model.cpuset import parse_cpu_list
from hostlerd.model.tuning import KernelThread
from hostlerd.observe.reading import names, text

PF_KTHREAD, PF_NO_SETAFFINITY = 0x00200000, 0x04000000
"""include/linux/sched.h; sched_setaffinity(2) of the second fails with EINVAL."""
_FLAGS, _START = 6, 19
"""Fields of /proc/PID/stat behind the name: flags (9) and starttime (22), proc_pid_stat(5)."""


def observe_kthreads(files: Files) -> tuple[KernelThread, ...]:
    found: list[KernelThread] = []
    for entry in names(files, "/proc"):
        if not entry.isdecimal():
            continue
        stat = text(files, f"/proc/{entry}/stat")
        if stat is None or "(" not in stat:
            continue  # it has ended
        name, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        if len(fields) <= _START or not int(fields[_FLAGS]) & PF_KTHREAD:
            continue
        if int(fields[_FLAGS]) & PF_NO_SETAFFINITY:
            continue
        allowed = next(
            (
                line.partition(":")[2]
                for line in (text(files, f"/proc/{entry}/status") or "").splitlines()
                if line.startswith("Cpus_allowed_list:")
            ),
            "",
        )
        try:
            cpus = parse_cpu_list(allowed)
        except ValueError:
            continue
        if cpus:
            found.append(KernelThread(pid=int(entry), start=int(fields[_START]), name=name, cpus=cpus))
    return tuple(sorted(found, key=lambda thread: thread.pid))
