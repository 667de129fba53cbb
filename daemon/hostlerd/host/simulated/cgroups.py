"""Control groups as far as CPUs go: cpuset.cpus and what becomes effective of it, and partitions (see `partitions`).

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

from hostlerd.host.simulated.partitions import Partitions
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list

ROOT = "/sys/fs/cgroup"
EXCLUSIVE = (6, 7)
"""From this Linux on there is cpuset.cpus.exclusive, and with it remote partitions (181c8e091aae)."""
AT_BOOT = "memory pids"
"""Controllers that systemd has on for the root's children on a fresh Debian 12; cpuset comes when a unit needs it."""


def _fail(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)


@dataclass(slots=True)
class Cgroups:
    """`unified`: version 2. On version 1 the cpuset hierarchy exists, and systemd's AllowedCPUs does nothing to it.

    `populated`: groups that have a task in them or below. `changed`: told of each group whose effective mask
    is another. `offline`: of `cpus`, those that are off line now. `release`: of the kernel.
    """

    tree: Tree
    cpus: CpuSet
    unified: bool = True
    populated: set[str] = field(default_factory=set[str])
    offline: CpuSet = frozenset()
    changed: Callable[[str], None] = lambda _: None
    release: Callable[[], tuple[int, int]] = lambda: (6, 1)
    notified: Callable[[], None] = lambda: None
    """Told when a partition became valid or invalid by itself (cgroup_file_notify)."""
    privileged: bool = True
    """Whether who writes has CAP_SYS_ADMIN, which the daemon has not."""
    partitions: Partitions = field(init=False)

    def __post_init__(self) -> None:
        self.partitions = Partitions(self.tree, ROOT)

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
        before = self.partitions.taken(self.cpus) if self.unified else frozenset[int]()
        self.tree.discard(f"{self._base}/{path.strip('/')}")
        if self.unified and self.partitions.taken(self.cpus) != before:
            self._settle_all()  # the CPUs of a partition are its parent's again (cpuset_css_offline)
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
        if not self.partitions.active:
            self._settle(path)
            return
        before = self.partitions.texts()
        self.partitions.cpus_changed(path, self.cpus - self.offline, self.release())
        self._settle_all()
        if self.partitions.texts() != before:
            self.notified()

    def write(self, path: str, name: str, text: str) -> None:
        """A write by hand to a cpuset file."""
        file = f"{ROOT}{path}/{name}"
        if name == "cpuset.cpus":
            try:
                cpus = parse_cpu_list(text)
            except ValueError:
                raise _fail(errno.EINVAL, file) from None
            self.ask(path, cpus)
        elif name == "cpuset.cpus.exclusive" and self.tree.exists(file):
            try:
                self.partitions.exclude(path, parse_cpu_list(text), self.cpus - self.offline, self.release())
            except ValueError:
                raise _fail(errno.EINVAL, file) from None
            self._settle_all()
        elif name == "cpuset.cpus.partition":
            if text.strip() not in ("member", "root", "isolated"):
                raise _fail(errno.EINVAL, file)
            kind, online = text.strip(), self.cpus - self.offline
            self.partitions.become(path, kind, online, self.release(), privileged=self.privileged)
            self._settle_all()
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
            before = self.partitions.texts()
            self.partitions.hotplug(self.cpus - self.offline, self.release())
            self._settle_all()
            self.changed("")
            if self.partitions.texts() != before:
                self.notified()

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
        if self.release() >= EXCLUSIVE:
            self.tree.put(f"{folder}/cpuset.cpus.exclusive", "\n")
            self.tree.put(f"{folder}/cpuset.cpus.exclusive.effective", "\n")
        self.tree.put(f"{folder}/cpuset.mems", "\n")
        self.tree.put(f"{folder}/cpuset.mems.effective", "0\n")
        self.tree.put(f"{folder}/cpuset.cpus.effective", "\n")
        self._settle(path)

    def _settle_all(self) -> None:
        """All effective masks, from the root on: what a partition has, nobody else does."""
        online = self.cpus - self.offline
        text = format_cpu_list(online - self.partitions.taken(online)) + "\n"
        if self.tree.read(f"{ROOT}/cpuset.cpus.effective") != text:
            self.tree.put(f"{ROOT}/cpuset.cpus.effective", text)
            self.changed("")
        for child in self._children(""):
            self._settle(child)

    def _settle(self, path: str) -> None:
        """The effective mask of this group and of all below it."""
        folder = f"{ROOT}{path}"
        if not self.tree.exists(f"{folder}/cpuset.cpus"):
            return
        above = self.effective(os.path.dirname(path))
        wanted = parse_cpu_list(self.tree.read(f"{folder}/cpuset.cpus"))
        own = self.partitions.own(path, self.cpus - self.offline)
        if own is None:
            own = (wanted & above) or above
        text = format_cpu_list(own) + "\n"
        if self.tree.read(f"{folder}/cpuset.cpus.effective") != text:
            self.tree.put(f"{folder}/cpuset.cpus.effective", text)
            self.changed(path)
        for child in self._children(path):
            self._settle(child)
