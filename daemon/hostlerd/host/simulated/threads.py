"""The threads of domains and where each may run: what libvirt asked for, and what the kernel makes of it.

A thread's own mask and its cpuset both count (kernel/sched/core.c, __set_cpus_allowed_ptr). Where the cpuset changes,
Linux 6.2 and newer keep to what was asked for as far as it fits (task_struct.user_cpus_ptr, commit da019032819a); older
ones give the thread all that its cpuset has, and what was asked for is forgotten (update_tasks_cpumask).

Seen in /proc/PID/task/TID: `comm` as QEMU names its threads (-name debug-threads=on), Cpus_allowed_list in `status`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hostlerd.host.simulated.cgroups import Cgroups
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list

KEEPS = (6, 2)
"""From this Linux on a change of its cpuset leaves a thread the mask it asked for."""


@dataclass(slots=True)
class Thread:
    """`name`: that of libvirt's group for it: vcpu0, iothread1, emulator. `asked`: empty until it was pinned."""

    tid: int
    name: str
    group: str
    asked: CpuSet
    allowed: CpuSet

    @property
    def comm(self) -> str:
        if self.name.startswith("vcpu"):
            return f"CPU {self.name.removeprefix('vcpu')}/KVM"
        return f"IO {self.name}" if self.name.startswith("iothread") else "qemu-system-x86"


class Threads:
    """`release`: of the kernel, which says what becomes of masks."""

    def __init__(self, tree: Tree, cgroups: Cgroups, release: Callable[[], tuple[int, int]]) -> None:
        self._tree, self._cgroups, self._release = tree, cgroups, release
        self.of: dict[int, dict[str, Thread]] = {}
        cgroups.changed = self._changed

    def start(self, pid: int, name: str, group: str) -> None:
        """A thread begins with the mask of its cpuset."""
        mine = self.of.setdefault(pid, {})
        number = pid if name == "emulator" else pid * 1000 + len(mine) + 1
        allowed = self._cgroups.effective(group)
        mine[name] = Thread(tid=number, name=name, group=group, asked=frozenset(), allowed=allowed)
        self.show(pid)

    def end(self, pid: int, name: str | None = None) -> None:
        """One of them, or all."""
        mine = self.of.pop(pid, {})
        if name is not None and mine.pop(name, None) is not None:
            self.of[pid] = mine
        self.show(pid)

    def pin(self, pid: int, name: str, cpus: CpuSet) -> None:
        thread = self.of.get(pid, {}).get(name)
        if thread is not None:
            thread.asked = cpus
            thread.allowed = cpus & self._cgroups.effective(thread.group) or thread.allowed
            self.show(pid)

    def show(self, pid: int) -> None:
        """The files of its threads, as far as the process has any."""
        folder = f"/proc/{pid}"
        if not self._tree.is_folder(folder):
            return
        self._tree.discard(f"{folder}/task")
        for thread in self.of.get(pid, {}).values():
            here = f"{folder}/task/{thread.tid}"
            self._tree.put(f"{here}/comm", thread.comm + "\n")
            self._tree.put(
                f"{here}/status",
                f"Name:\t{thread.comm}\nTgid:\t{pid}\nPid:\t{thread.tid}\n"
                f"Cpus_allowed_list:\t{format_cpu_list(thread.allowed)}\n",
            )

    def _changed(self, path: str) -> None:
        """The effective mask of this group, which is the cpuset of those in it, is another."""
        for pid, threads in self.of.items():
            touched = [t for t in threads.values() if self._cgroups.cpuset_of(t.group) == path]
            for thread in touched:
                mask = self._cgroups.effective(path)
                kept = thread.asked & mask if self._release() >= KEEPS else frozenset[int]()
                thread.allowed = kept or mask
            if touched:
                self.show(pid)

    # --- to and from JSON

    def dump(self) -> list[list[Any]]:
        return [
            [pid, t.tid, t.name, t.group, format_cpu_list(t.asked), format_cpu_list(t.allowed)]
            for pid, threads in self.of.items()
            for t in threads.values()
        ]

    def load(self, dumped: list[list[Any]]) -> None:
        self.of = {}
        for pid, tid, name, group, asked, allowed in dumped:
            self.of.setdefault(pid, {})[name] = Thread(
                tid=tid,
                name=name,
                group=group,
                asked=parse_cpu_list(asked),
                allowed=parse_cpu_list(allowed),
            )
