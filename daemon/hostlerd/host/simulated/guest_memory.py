"""Where the memory of a guest goes on the host's nodes, and how /proc/PID/numa_maps shows it.

`<numatune>` binds it (host-nodes= of QEMU's memory backends); else it is where the thread is that touches it first: for
VFIO, which maps all of it, the emulator's.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hostlerd.host.simulated.cpus import NODES
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import parse_cpu_list
from hostlerd.observe.domain_xml import parse_domain

HUGE = 2048
START = 0x7F0000000000


def allot(tree: Tree, text: str) -> list[list[int]]:
    """[node, KiB] of a guest with this XML."""
    definition = parse_domain(text)
    tuning, first = definition.numatune, first_node(tree, text)
    sizes = {n: cell.memory_kib for n, cell in enumerate(definition.cells)} or {-1: definition.memory_kib}
    found: dict[int, int] = {}
    for cell, kib in sizes.items():
        nodes = sorted((tuning.cells.get(cell) or tuning.nodes) if tuning is not None else ()) or [first]
        for node in nodes:
            found[node] = found.get(node, 0) + kib // len(nodes)
    return [[node, kib] for node, kib in sorted(found.items())]


def first_node(tree: Tree, text: str) -> int:
    """The node of the emulator's first CPU."""
    pin = ET.fromstring(text).find("cputune/emulatorpin")  # noqa: S314 - simulated
    cpu = 0 if pin is None else min(parse_cpu_list(pin.get("cpuset", "0")), default=0)
    for name in tree.listdir(NODES) if tree.exists(NODES) else []:
        if name.startswith("node") and cpu in parse_cpu_list(tree.read(f"{NODES}/{name}/cpulist")):
            return int(name.removeprefix("node"))
    return 0


def numa_maps(memory: list[list[int]]) -> str:
    """show_numa_map: a mapping of huge pages a node, and one of QEMU's own."""
    lines = ["55d0c0a00000 default file=/usr/bin/qemu-system-x86_64 mapped=1200 N0=1200 kernelpagesize_kB=4"]
    for number, (node, kib) in enumerate(memory):
        pages = kib // HUGE
        lines.append(
            f"{START + (number << 36):x} default file=/dev/hugepages/libvirt/qemu/ram huge dirty={pages} "
            f"N{node}={pages} kernelpagesize_kB={HUGE}"
        )
    lines.append("7ffd00000000 default stack anon=30 dirty=30 N0=30 kernelpagesize_kB=4")
    return "\n".join(lines) + "\n"
