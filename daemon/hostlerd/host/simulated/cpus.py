"""The files under /sys/devices/system that describe processors, caches and NUMA nodes, from a compact description.

Documentation/ABI/{testing,stable}/sysfs-devices-{system-cpu,node}. Nothing here reacts to writes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list

CPUS = "/sys/devices/system/cpu"
NODES = "/sys/devices/system/node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Processors:
    """`l3_kib`: size of each level-3 cache of a socket, in order: one cache an entry.

    `split`: CPU numbers go over all cores first and then over their second threads (as firmware mostly does it); else
    the threads of a core are neighbours (as QEMU does it). `nodes_by`: "host" (one node), "socket" or "l3".
    """

    sockets: int = 1
    l3_kib: tuple[int, ...] = (32768,)
    cores_per_l3: int = 4
    threads: int = 2
    split: bool = True
    nodes_by: str = "host"
    memory_gib: int = 32
    max_mhz: tuple[int, ...] = (5000,)
    """Highest clock of each level-3 cache's cores; the last one counts for the rest."""

    @property
    def cores(self) -> int:
        return self.sockets * len(self.l3_kib) * self.cores_per_l3

    @property
    def all(self) -> CpuSet:
        return frozenset(range(self.cores * self.threads))

    def of_core(self, core: int) -> CpuSet:
        if self.split:
            return frozenset(core + thread * self.cores for thread in range(self.threads))
        return frozenset(core * self.threads + thread for thread in range(self.threads))

    def of_l3(self, l3: int) -> CpuSet:
        return self._of_cores(range(l3 * self.cores_per_l3, (l3 + 1) * self.cores_per_l3))

    def of_socket(self, socket: int) -> CpuSet:
        per_socket = self.cores // self.sockets
        return self._of_cores(range(socket * per_socket, (socket + 1) * per_socket))

    def of_nodes(self) -> tuple[CpuSet, ...]:
        match self.nodes_by:
            case "socket":
                return tuple(self.of_socket(socket) for socket in range(self.sockets))
            case "l3":
                return tuple(self.of_l3(l3) for l3 in range(self.sockets * len(self.l3_kib)))
            case _:
                return (self.all,)

    def _of_cores(self, cores: Iterable[int]) -> CpuSet:
        return frozenset(cpu for core in cores for cpu in self.of_core(core))


def show(tree: Tree, processors: Processors) -> None:
    every = format_cpu_list(processors.all)
    for name, text in {
        "online": every,
        "possible": every,
        "present": every,
        "offline": "",
        "isolated": "",
        "nohz_full": "(null)",  # print_cpus_nohz_full on a kernel that was booted without nohz_full=
        "kernel_max": "8191",
        "smt/active": str(int(processors.threads > 1)),
        "smt/control": "on" if processors.threads > 1 else "notsupported",
    }.items():
        tree.put(f"{CPUS}/{name}", text + "\n")
    for core in range(processors.cores):
        for cpu in processors.of_core(core):
            _show_cpu(tree, processors, core, cpu)
    _show_nodes(tree, processors)


def show_online(tree: Tree, cpu: int, *, online: bool) -> None:
    """What the kernel shows of a CPU that goes or comes (drivers/base/cpu.c, online_store).

    Raises OSError: EACCES for the boot CPU, which has no such file.
    """
    file = f"{CPUS}/cpu{cpu}/online"
    if not tree.exists(file):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), file)
    tree.put(file, f"{int(online)}\n")
    possible = parse_cpu_list(tree.read(f"{CPUS}/possible"))
    off = parse_cpu_list(tree.read(f"{CPUS}/offline"))
    off = off - {cpu} if online else off | {cpu}
    tree.put(f"{CPUS}/offline", format_cpu_list(off) + "\n")
    tree.put(f"{CPUS}/online", format_cpu_list(possible - off) + "\n")


def _show_cpu(tree: Tree, processors: Processors, core: int, cpu: int) -> None:
    folder = f"{CPUS}/cpu{cpu}"
    l3 = core // processors.cores_per_l3
    per_socket = processors.cores // processors.sockets
    socket = core // per_socket
    if cpu:  # the boot CPU cannot be taken off line
        tree.put(f"{folder}/online", "1\n")
    siblings, package = processors.of_core(core), processors.of_socket(socket)
    sets = {
        "thread_siblings": siblings,
        "core_cpus": siblings,
        "package_cpus": package,
        "core_siblings": package,
    }
    sets["die_cpus"] = package
    for name, cpus in sets.items():
        tree.put(f"{folder}/topology/{name}", _mask(cpus))
        tree.put(f"{folder}/topology/{name}_list", format_cpu_list(cpus) + "\n")
    # core_id is unique only within a die (lxc/incus#2225): here it starts again with every L3.
    numbers = {"core_id": core % processors.cores_per_l3, "physical_package_id": socket, "die_id": 0}
    for name, value in numbers.items():
        tree.put(f"{folder}/topology/{name}", f"{value}\n")
    caches = (
        (1, "Data", 32, siblings),
        (1, "Instruction", 32, siblings),
        (2, "Unified", 1024, siblings),
        (3, "Unified", processors.l3_kib[l3 % len(processors.l3_kib)], processors.of_l3(l3)),
    )
    for index, (level, kind, kib, shared) in enumerate(caches):
        cache = f"{folder}/cache/index{index}"
        tree.put(f"{cache}/level", f"{level}\n")
        tree.put(f"{cache}/type", f"{kind}\n")
        tree.put(f"{cache}/size", f"{kib}K\n")
        tree.put(f"{cache}/id", f"{l3 if level == 3 else core}\n")
        tree.put(f"{cache}/shared_cpu_list", format_cpu_list(shared) + "\n")
        tree.put(f"{cache}/shared_cpu_map", _mask(shared))
    mhz = processors.max_mhz[min(l3, len(processors.max_mhz) - 1)]
    if mhz:
        tree.put(f"{folder}/cpufreq/cpuinfo_max_freq", f"{mhz * 1000}\n")


def _show_nodes(tree: Tree, processors: Processors) -> None:
    nodes = processors.of_nodes()
    ids = format_cpu_list(range(len(nodes)))
    for name in ("online", "possible", "has_cpu", "has_memory"):
        tree.put(f"{NODES}/{name}", ids + "\n")
    kib = processors.memory_gib * 1024 * 1024 // len(nodes)
    for node, cpus in enumerate(nodes):
        folder = f"{NODES}/node{node}"
        tree.put(f"{folder}/cpulist", format_cpu_list(cpus) + "\n")
        tree.put(f"{folder}/cpumap", _mask(cpus))
        tree.put(
            f"{folder}/distance",
            " ".join("10" if other == node else "20" for other in range(len(nodes))) + "\n",
        )
        tree.put(
            f"{folder}/meminfo",
            f"Node {node} MemTotal: {kib:>15} kB\nNode {node} MemFree:  {kib // 2:>15} kB\n",
        )
        for cpu in cpus:
            tree.link(f"{folder}/cpu{cpu}", f"{CPUS}/cpu{cpu}")
            tree.link(f"{CPUS}/cpu{cpu}/node{node}", folder)
    total = processors.memory_gib * 1024 * 1024
    tree.put(
        "/proc/meminfo",
        f"MemTotal:       {total} kB\nMemFree:        {total // 2} kB\nHugePages_Total:       0\n"
        "Hugepagesize:       2048 kB\n",
    )


def _mask(cpus: CpuSet) -> str:
    """Groups of 32 bits, the highest first."""
    value = sum(1 << cpu for cpu in cpus)
    groups = max(1, (value.bit_length() + 31) // 32)
    return ",".join(f"{value >> 32 * group & 0xFFFFFFFF:08x}" for group in reversed(range(groups))) + "\n"
