"""Processes that have device nodes open: /proc/PID with comm, cmdline, status, cgroup, stat, maps and fd links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from hostlerd.host.simulated.tree import Tree

MAP = "7f3a5c000000-7f3a5c001000 rw-s 00000000 00:05 {inode:<26} {path}\n"


@dataclass(slots=True)
class Processes:
    """`open`: pid to the paths it has open or mapped."""

    tree: Tree
    open: dict[int, list[str]] = field(default_factory=dict[int, list[str]])

    def start(
        self,
        *,
        pid: int,
        command: str,
        uid: int,
        cgroup: str,
        paths: list[str],
        mapped: bool = False,
        start: int = 4711,
        arguments: Sequence[str] = (),
        numa_maps: str = "",
        huge_kib: int = 0,
    ) -> None:
        """`mapped`: the paths are mapped, and their files closed again. `start`: clock ticks after boot."""
        folder = f"/proc/{pid}"
        self.tree.put(f"{folder}/comm", command[:15] + "\n")
        self.tree.put(f"{folder}/cmdline", "".join(f"{word}\0" for word in (command, *arguments)))
        self.tree.put(
            f"{folder}/status",
            f"Name:\t{command[:15]}\nPid:\t{pid}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nHugetlbPages:\t{huge_kib:8} kB\n",
        )
        self.tree.put(f"{folder}/cgroup", f"0::{cgroup}\n")
        self.tree.put(f"{folder}/stat", f"{pid} ({command[:15]}) S 1 " + " ".join(["0"] * 17) + f" {start}\n")
        self.tree.put(f"{folder}/numa_maps", numa_maps)
        self.tree.folder(f"{folder}/fd")
        self.tree.put(
            f"{folder}/maps",
            "".join(MAP.format(inode=inode, path=path) for inode, path in enumerate(paths, 90) if mapped),
        )
        for number, path in enumerate(paths if not mapped else [], 3):
            self.tree.link_as_is(f"{folder}/fd/{number}", path)
        self.open[pid] = list(paths)

    def move(self, pid: int, *, start: int, command: str, cgroup: str) -> None:
        """Into another control group. One from outside, which asked over the real socket, is there from now on."""
        if pid not in self.open:
            self.start(pid=pid, command=command, uid=1000, cgroup=cgroup, paths=[], start=start)
        self.tree.put(f"/proc/{pid}/cgroup", f"0::{cgroup}\n")

    def user(self, pid: int) -> int:
        lines = self.tree.read(f"/proc/{pid}/status").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("Uid:")))

    def free_pid(self) -> int:
        """Above those that tests and people choose."""
        return next(pid for pid in count(900_001) if pid not in self.open)

    def end(self, pid: int) -> bool:
        self.tree.discard(f"/proc/{pid}")
        return self.open.pop(pid, None) is not None

    def hold(self, paths: list[str]) -> list[int]:
        """Those that have one of these open."""
        return [pid for pid, open_paths in self.open.items() if set(open_paths) & set(paths)]

    def opened(self, paths: Iterable[str]) -> int:
        """How many files of these there are."""
        wanted = set(paths)
        return sum(path in wanted for paths in self.open.values() for path in paths)

    def within(self, part: str) -> list[int]:
        """Those whose control group has this part: a unit, or the scope of a container."""
        return [
            pid
            for pid in self.open
            if part in self.tree.read(f"/proc/{pid}/cgroup").strip().partition("::")[2].split("/")
        ]
