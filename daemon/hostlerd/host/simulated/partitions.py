"""cpuset.cpus.partition and cpuset.cpus.exclusive of the simulated control groups.

kernel/cgroup/cpuset.c: update_prstate, update_parent_subparts_cpumask (6.1), remote_partition_enable (6.7), and
validate_change. What the files say was seen in the lab on Linux 6.1 and 6.12 (group `partitions`):

- a write that cannot be had succeeds, and the file says why: "isolated invalid (Cpu list in cpuset.cpus not
  exclusive)";
- that stays when the reason is gone, until the group's own CPUs change or "member" is written; on 6.12 also until the
  same is written again;
- a CPU that goes off line is missing for the while; a partition all of whose CPUs go is invalid, and a remote one stays
  so when they are back.

All state is in the files; `_known` only says which groups to look at. Simpler than the real thing: a partition below
another one is not known.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list

EXCLUSIVE, INDEPENDENT, AGAIN, LENIENT = (6, 7), (6, 11), (6, 12), (7, 0)
"""From 6.11 on cpuset.cpus.exclusive may have what cpuset.cpus has not (737bb142a00e); from 7.0 on a conflict with a
sibling's cpuset.cpus makes no partition with cpuset.cpus.exclusive invalid (2a3602030d80)."""

NOT_EXCLUSIVE = "Cpu list in cpuset.cpus not exclusive"
NO_ROOT = "Parent is not a partition root"
BAD_LIST = "Invalid cpu list in cpuset.cpus"
NOTHING_LEFT = "Parent unable to distribute cpu downstream"
NOT_PERMITTED = "Enable partition not permitted"
HOTPLUG = "No cpu available due to hotplug"
EMPTY, BOTH_EMPTY = "cpuset.cpus is empty", "cpuset.cpus and cpuset.cpus.exclusive are empty"


@dataclass(slots=True)
class Partitions:
    tree: Tree
    root: str
    _known: set[str] | None = None

    @property
    def active(self) -> Collection[str]:
        """Groups that are no members, valid or not."""
        if self._known is None:
            self._known = {group for group in self._groups() if self.text(group) != "member"}
        return [group for group in sorted(self._known) if self.text(group) != "member"]

    def loaded(self) -> None:
        """The tree is another."""
        self._known = None

    def become(
        self, path: str, kind: str, online: CpuSet, release: tuple[int, int], *, privileged: bool = True
    ) -> None:
        """A write of member, root or isolated. A remote one asks for CAP_SYS_ADMIN (remote_partition_enable)."""
        base, _, why = self.text(path).partition(" invalid ")
        if kind == base and not (why and release >= AGAIN):
            return
        if kind == "member":
            self._put(path, "member")
        elif why and release < AGAIN:  # once invalid it stays so, whatever it is to be
            self._put(path, f"{kind} invalid {why}")
        elif base == "member" or why:
            permitted = privileged or release < EXCLUSIVE or not _is_remote(path)
            judged = self._judged(path, kind, online, release)
            self._put(path, judged if permitted else f"{kind} invalid ({NOT_PERMITTED})")
        else:
            self._put(path, kind)
        self._show_exclusive()

    def exclude(self, path: str, cpus: CpuSet, online: CpuSet, release: tuple[int, int]) -> None:
        """A write to cpuset.cpus.exclusive. Raises ValueError where a sibling has one of these (validate_change)."""
        for sibling in self._siblings(path):
            asked = self._list(sibling, "cpuset.cpus")
            if cpus & self._list(sibling, "cpuset.cpus.exclusive") or (asked and asked <= cpus):
                raise ValueError("taken")
        self.tree.put(f"{self.root}{path}/cpuset.cpus.exclusive", format_cpu_list(cpus) + "\n")
        for group in [g for g in self._groups() if g == path or g.startswith(f"{path}/")]:
            self._again(group, online, release)
        self._show_exclusive()

    def cpus_changed(self, path: str, online: CpuSet, release: tuple[int, int]) -> None:
        """cpuset.cpus is another: this group is judged anew, and each valid one beside it."""
        if not self.active:
            return
        self._again(path, online, release)
        for sibling in self._siblings(path):
            lenient = release >= LENIENT and self._list(sibling, "cpuset.cpus.exclusive")
            if self._valid(sibling) and not lenient and self._conflicts(sibling):
                self._put(sibling, f"{self.text(sibling)} invalid ({NOT_EXCLUSIVE})")
        self._show_exclusive()

    def hotplug(self, online: CpuSet, release: tuple[int, int]) -> None:
        for group in self.active:
            base, _, why = self.text(group).partition(" invalid ")
            if not why and not self._wanted(group) & online:
                self._put(group, f"{base} invalid ({HOTPLUG})")
            elif why == f"({HOTPLUG})" and not _is_remote(group):
                self._again(group, online, release)
        self._show_exclusive()

    def taken(self, online: CpuSet) -> CpuSet:
        """What partitions have, and the root's others therefore do not."""
        return frozenset[int]().union(*(self._wanted(g) & online for g in self.active if self._valid(g)))

    def own(self, path: str, online: CpuSet) -> CpuSet | None:
        """The effective CPUs of a valid partition; None for a group that is none."""
        return self._wanted(path) & online if self._valid(path) else None

    def text(self, path: str) -> str:
        file = f"{self.root}{path}/cpuset.cpus.partition"
        return self.tree.read(file).strip() if self.tree.exists(file) else "member"

    def texts(self) -> dict[str, str]:
        return {group: self.text(group) for group in self.active}

    def _again(self, path: str, online: CpuSet, release: tuple[int, int]) -> None:
        base = self.text(path).partition(" invalid ")[0]
        if base != "member":
            self._put(path, self._judged(path, base, online, release))

    def _judged(self, path: str, kind: str, online: CpuSet, release: tuple[int, int]) -> str:
        why = self._objection(path, online, release)
        return f"{kind} invalid ({why})" if why else kind

    def _objection(self, path: str, online: CpuSet, release: tuple[int, int]) -> str:
        exclusive = release >= EXCLUSIVE
        asked = self._list(path, "cpuset.cpus.exclusive") or self._list(path, "cpuset.cpus")
        bad = f"{BAD_LIST}.exclusive" if exclusive else BAD_LIST
        remote = _is_remote(path)
        if remote and not (exclusive and self._list(path.rpartition("/")[0], "cpuset.cpus.exclusive")):
            return NO_ROOT
        if not asked:
            return BOTH_EMPTY if exclusive else EMPTY
        if self._conflicts(path):
            return NOT_EXCLUSIVE
        wanted = self._wanted(path)
        if exclusive and release < INDEPENDENT and not asked <= self._list(path, "cpuset.cpus"):
            return bad
        others = [g for g in self.active if g != path and self._valid(g)]
        if not wanted or any(wanted & self._wanted(other) for other in others):
            return bad
        left = online.difference(wanted, *(self._wanted(other) for other in others))
        if not left:
            return bad if remote else NOTHING_LEFT
        return "" if wanted & online else HOTPLUG

    def _conflicts(self, path: str) -> bool:
        mine = self._list(path, "cpuset.cpus.exclusive") or self._list(path, "cpuset.cpus")
        return any(
            mine & (self._list(s, "cpuset.cpus.exclusive") or self._list(s, "cpuset.cpus"))
            for s in self._siblings(path)
        )

    def _wanted(self, path: str) -> CpuSet:
        """user_xcpus, as far as those above it hand them down (compute_effective_exclusive_cpumask)."""
        wanted = self._list(path, "cpuset.cpus.exclusive") or self._list(path, "cpuset.cpus")
        above = path.rpartition("/")[0]
        while above:
            wanted &= self._list(above, "cpuset.cpus.exclusive") or self._list(above, "cpuset.cpus")
            above = above.rpartition("/")[0]
        return wanted

    def _valid(self, path: str) -> bool:
        return self.text(path) in ("root", "isolated")

    def _groups(self, path: str = "") -> list[str]:
        found: list[str] = []
        for name in self.tree.listdir(f"{self.root}{path}"):
            below = f"{path}/{name}"
            if self.tree.exists(f"{self.root}{below}/cpuset.cpus"):
                found += [below, *self._groups(below)]
        return found

    def _siblings(self, path: str) -> list[str]:
        above = path.rpartition("/")[0]
        folder = f"{self.root}{above}"
        names = self.tree.listdir(folder)
        return [
            f"{above}/{n}"
            for n in names
            if f"{above}/{n}" != path and self.tree.exists(f"{folder}/{n}/cpuset.cpus")
        ]

    def _list(self, path: str, name: str) -> CpuSet:
        file = f"{self.root}{path}/{name}"
        return parse_cpu_list(self.tree.read(file)) if self.tree.exists(file) else frozenset()

    def _put(self, path: str, text: str) -> None:
        self.tree.put(f"{self.root}{path}/cpuset.cpus.partition", f"{text}\n")
        if self._known is not None:
            self._known.add(path)

    def _show_exclusive(self) -> None:
        for group in self._groups():
            file = f"{self.root}{group}/cpuset.cpus.exclusive.effective"
            if self.tree.exists(file):
                shown = self._list(group, "cpuset.cpus.exclusive") or self._valid(group)
                self.tree.put(file, format_cpu_list(self._wanted(group) if shown else frozenset()) + "\n")


def _is_remote(path: str) -> bool:
    return path.count("/") > 1
