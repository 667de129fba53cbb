"""Control groups as far as CPUs go: cpuset.cpus and what becomes effective of it.

kernel/cgroup/cpuset.c (update_cpumasks_hier): effective is what was asked for and the parent has; the parent's where
that is empty. An empty cpuset.cpus asks for nothing of its own. A group's children have the files only while the
controller is on for them. Lab: `console_card`, `in_turn` read cpuset.cpus.effective of the slices.

Simpler than the real thing: there are no tasks but the threads of domains (`threads`), so a group says itself whether
it counts as populated.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list

ROOT = "/sys/fs/cgroup"
AT_BOOT = "memory pids"
"""Controllers that systemd has on for the root's children on a fresh Debian 12; cpuset comes when a unit needs it."""


def _fail(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)


@dataclass(slots=True)
class Cgroups:
    """`unified`: version 2. On version 1 the cpuset hierarchy exists, and systemd's AllowedCPUs does nothing to it.

    `populated`: groups that have a task in them or below. `changed`: told of each group whose effective mask
    is another. `offline`: of `cpus`, those that are off line now.
    """

    tree: Tree
    cpus: CpuSet
    unified: bool = True
    populated: set[str] = field(default_factory=set[str])
    offline: CpuSet = frozenset()
    changed: Callable[[str], None] = lambda _: None

    def boot(self) -> None:
        if not self.unified:
            for name in ("cpuset", "cpu,cpuacct", "memory", "systemd", "unified"):
                self.tree.folder(f"{ROOT}/{name}")
            for name, text in {"cpuset.cpus": self.cpus, "cpuset.effective_cpus": self.cpus}.items():
                self.tree.put(f"{ROOT}/cpuset/{name}", format_cpu_list(text) + "\n")
            self.tree.put(f"{ROOT}/cpuset/cpuset.mems", "0\n")
            return
        self.tree.put(f"{ROOT}/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n")
        self.tree.put(f"{ROOT}/cgroup.subtree_control", f"{AT_BOOT}\n")
        self.tree.put(f"{ROOT}/cgroup.procs", "")
        self.tree.put(f"{ROOT}/cpuset.cpus.effective", format_cpu_list(self.cpus) + "\n")
        self.tree.put(f"{ROOT}/cpuset.mems.effective", "0\n")

    def make(self, path: str, *, populated: bool = False) -> None:
        """mkdir below the root, with the folders above. `populated`: a task is put into it."""
        here = ""
        for part in path.strip("/").split("/"):
            parent, here = here, f"{here}/{part}"
            if populated:
                self.populated.add(here)
            if self.tree.is_folder(f"{self._base}{here}"):
                continue
            for name in ("cgroup.procs", "cgroup.controllers", "cgroup.subtree_control"):
                self.tree.put(f"{self._base}{here}/{name}", "")
            if self.unified and self.controlled(parent):
                self._give_files(here)

    def remove(self, path: str) -> None:
        """rmdir, with the groups below; those above are populated only if something else in them is."""
        self.tree.discard(f"{self._base}/{path.strip('/')}")
        self.populated = {group for group in self.populated if not f"{group}/".startswith(f"{path}/")}
        parts = path.strip("/").split("/")[:-1]
        for depth in range(len(parts), 0, -1):
            above = "/" + "/".join(parts[:depth])
            if above in self.populated and not any(group.startswith(f"{above}/") for group in self.populated):
                self.populated.discard(above)

    def controlled(self, path: str) -> bool:
        """Is the cpuset controller on for the children of this group?"""
        return "cpuset" in self.tree.read(f"{ROOT}{path}/cgroup.subtree_control").split()

    def control(self, path: str) -> None:
        """`+cpuset` in this group and all above it: the children get their files."""
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts) + 1):
            here = "".join(f"/{part}" for part in parts[:depth])
            if self.controlled(here):
                continue
            file = f"{ROOT}{here}/cgroup.subtree_control"
            self.tree.put(file, " ".join(["cpuset", *self.tree.read(file).split()]) + "\n")
            for child in self._children(here):
                self._give_files(child)

    def uncontrol(self, path: str) -> None:
        """`-cpuset` in this group and all below: the children lose their files and with them every mask."""
        if not self.controlled(path):
            return
        for child in self._children(path):
            self.uncontrol(child)
            for name in self.tree.listdir(f"{ROOT}{child}"):
                if name.startswith("cpuset."):
                    self.tree.discard(f"{ROOT}{child}/{name}")
            self.changed(self.cpuset_of(child))
        file = f"{ROOT}{path}/cgroup.subtree_control"
        words = [word for word in self.tree.read(file).split() if word != "cpuset"]
        self.tree.put(file, " ".join(words) + "\n" if words else "")  # cgroup_print_ss_mask

    def ask(self, path: str, cpus: CpuSet) -> None:
        """Write cpuset.cpus. ENOENT where the controller is off, ERANGE for a CPU beyond those possible.

        ENOSPC for emptying that of a group with tasks in it (validate_change). All three seen on Linux 6.1.
        """
        path = f"/{path.strip('/')}"
        file = f"{ROOT}{path}/cpuset.cpus"
        now = self.tree.read(file)
        if cpus - self.cpus:
            raise _fail(errno.ERANGE, file)
        if not cpus and now.strip() and path in self.populated:
            raise _fail(errno.ENOSPC, file)
        self.tree.put(file, format_cpu_list(cpus) + "\n")
        self._settle(path)

    def write(self, path: str, name: str, text: str) -> None:
        """A write by hand to a cpuset file. Partitions are not simulated: only `member` is taken."""
        file = f"{ROOT}{path}/{name}"
        if name == "cpuset.cpus":
            try:
                cpus = parse_cpu_list(text)
            except ValueError:
                raise _fail(errno.EINVAL, file) from None
            self.ask(path, cpus)
        elif name == "cpuset.cpus.partition":
            if text.strip() != "member":
                raise _fail(errno.EINVAL, file)
        elif name == "cgroup.subtree_control" and "+cpuset" in text.split():
            self.control(path)
        else:
            raise _fail(errno.EACCES, file)

    def effective(self, path: str) -> CpuSet:
        """Of a group, or of the nearest one above that has the controller."""
        file = f"{ROOT}{self.cpuset_of(path)}/cpuset.cpus.effective"
        return parse_cpu_list(self.tree.read(file)) if self.tree.exists(file) else self.cpus - self.offline

    def cpuset_of(self, path: str) -> str:
        """The group itself, or the nearest one above that has the controller: the tasks in it have its cpuset."""
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), 0, -1):
            here = "".join(f"/{part}" for part in parts[:depth])
            if self.tree.exists(f"{ROOT}{here}/cpuset.cpus.effective"):
                return here
        return ""

    def switch(self, cpu: int, *, online: bool) -> None:
        """A CPU comes or goes: the masks in force follow, those that were asked for stay (cpuset_hotplug_workfn)."""
        self.offline = self.offline - {cpu} if online else self.offline | {cpu}
        if self.unified:
            text = format_cpu_list(self.cpus - self.offline) + "\n"
            self.tree.put(f"{ROOT}/cpuset.cpus.effective", text)
            self.changed("")
            for child in self._children(""):
                self._settle(child)

    @property
    def _base(self) -> str:
        return ROOT if self.unified else f"{ROOT}/systemd"

    def _children(self, path: str) -> list[str]:
        folder = f"{ROOT}{path}"
        return [
            f"{path}/{name}" for name in self.tree.listdir(folder) if self.tree.is_folder(f"{folder}/{name}")
        ]

    def _give_files(self, path: str) -> None:
        folder = f"{ROOT}{path}"
        if self.tree.exists(f"{folder}/cpuset.cpus"):
            return
        self.tree.put(f"{folder}/cpuset.cpus", "\n")
        self.tree.put(f"{folder}/cpuset.cpus.partition", "member\n")
        self.tree.put(f"{folder}/cpuset.mems", "\n")
        self.tree.put(f"{folder}/cpuset.mems.effective", "0\n")
        self.tree.put(f"{folder}/cpuset.cpus.effective", "\n")
        self._settle(path)

    def _settle(self, path: str) -> None:
        """The effective mask of this group and of all below it."""
        folder = f"{ROOT}{path}"
        if not self.tree.exists(f"{folder}/cpuset.cpus"):
            return
        above = self.effective(os.path.dirname(path))
        wanted = parse_cpu_list(self.tree.read(f"{folder}/cpuset.cpus"))
        text = format_cpu_list((wanted & above) or above) + "\n"
        if self.tree.read(f"{folder}/cpuset.cpus.effective") != text:
            self.tree.put(f"{folder}/cpuset.cpus.effective", text)
            self.changed(path)
        for child in self._children(path):
            self._settle(child)
