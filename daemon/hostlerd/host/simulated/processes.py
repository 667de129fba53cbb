"""Processes that have device nodes open: /proc/PID with comm, cmdline, status, cgroup and fd links."""

from __future__ import annotations

from dataclasses import dataclass, field

from hostlerd.host.simulated.tree import Tree


@dataclass(slots=True)
class Processes:
    """`open`: pid to the paths it has open."""

    tree: Tree
    open: dict[int, list[str]] = field(default_factory=dict[int, list[str]])

    def start(self, *, pid: int, command: str, uid: int, cgroup: str, paths: list[str]) -> None:
        folder = f"/proc/{pid}"
        self.tree.put(f"{folder}/comm", command[:15] + "\n")
        self.tree.put(f"{folder}/cmdline", command + "\0")
        self.tree.put(
            f"{folder}/status", f"Name:\t{command[:15]}\nPid:\t{pid}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
        )
        self.tree.put(f"{folder}/cgroup", f"0::{cgroup}\n")
        self.tree.put(f"{folder}/stat", f"{pid} ({command[:15]}) S 1 " + " ".join(["0"] * 17) + " 4711\n")
        self.tree.folder(f"{folder}/fd")
        for number, path in enumerate(paths, 3):
            self.tree.link_as_is(f"{folder}/fd/{number}", path)
        self.open[pid] = list(paths)

    def end(self, pid: int) -> bool:
        self.tree.discard(f"/proc/{pid}")
        return self.open.pop(pid, None) is not None

    def hold(self, paths: list[str]) -> list[int]:
        """Those that have one of these open."""
        return [pid for pid, open_paths in self.open.items() if set(open_paths) & set(paths)]
