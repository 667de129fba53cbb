"""Where the memory of a running domain is: /proc/PID/numa_maps of its QEMU.

Format (Documentation/filesystems/proc.rst, fs/proc/task_mmu.c, show_numa_map): a line a mapping; `N0=512` are pages on
node 0, in pages of `kernelpagesize_kB`: huge ones count as one, transparent ones as the small ones that they are made
of (gather_pte_stats). What a device has mapped (PFN maps, a card's BARs) counts nothing. All of the process counts
here: beside its guest's memory QEMU's own is little.

It costs a walk over all page tables: with pages of 4 KiB 0.1 to 0.3 s a GiB, with huge pages next to nothing. During
the walk the process cannot change its maps (mmap_lock is held for reading), and a process that hangs in a page fault
hangs the reader. So it is read seldom, and only where it can be abandoned. The reader needs CAP_SYS_PTRACE.
"""

from __future__ import annotations

from collections import Counter

from hostlerd.host import Files
from hostlerd.model.guest_memory import Placed
from hostlerd.observe.reading import text, to_number

PIDS = "/run/libvirt/qemu"
"""libvirt's pid files of qemu:///system: NAME.pid (qemuProcessLaunch, virPidFileBuildPath)."""
_PAGE = "kernelpagesize_kB="


def guest_memory(files: Files, name: str, uuid: str) -> Placed | None:
    """None where it cannot be found out. May block."""
    pid = qemu_pid(files, name, uuid)
    if pid is None:
        return None
    try:
        lines = files.lines_with(f"/proc/{pid}/numa_maps", (_PAGE,))
    except OSError:
        return None  # it has ended, or a kernel without CONFIG_NUMA
    return parse_numa_maps(lines)


def qemu_pid(files: Files, name: str, uuid: str) -> str | None:
    """May block, as the process's memory is asked for its command line."""
    pid = text(files, f"{PIDS}/{name}.pid")
    if not pid or not pid.isdecimal():
        return None
    # A file that was left behind may name any process: QEMU's command line has -uuid.
    return pid if uuid in (text(files, f"/proc/{pid}/cmdline") or "").split("\0") else None


def parse_numa_maps(lines: list[str]) -> Placed:
    nodes = Counter[int]()
    for line in lines:
        words = line.split()[2:]
        page = next((to_number(word.removeprefix(_PAGE)) for word in words if word.startswith(_PAGE)), None)
        for word in words:
            name, _, pages = word.partition("=")
            if name[:1] == "N" and name[1:].isdecimal() and pages.isdecimal():
                nodes[int(name[1:])] += int(pages) * (page or 4)
    return Placed(tuple(sorted((node, kib) for node, kib in nodes.items() if kib)))
