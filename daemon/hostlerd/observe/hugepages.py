"""The kernel's pools of huge pages, and what of them starting domains have already.

/sys/devices/system/node/nodeN/hugepages (mm/hugetlb.c, per_node_hstate_attrs: nr, free and surplus), or, of a kernel
without NUMA, /sys/kernel/mm/hugepages, where reservations are counted in any case: they are not kept by node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hostlerd.host import Files
from hostlerd.model.domains import Definition
from hostlerd.model.hugepages import DEFAULT, NR, Hugepages, Pool
from hostlerd.observe.guest_memory import qemu_pid
from hostlerd.observe.reading import names, number, text

NODES = "/sys/devices/system/node"
GLOBAL = "/sys/kernel/mm/hugepages"
_SIZE = re.compile(r"hugepages-(\d+)kB")
_NODE = re.compile(r"node(\d+)")
_DEFAULT = re.compile(r"^Hugepagesize:\s+(\d+) kB", re.MULTILINE)
_TAKEN = re.compile(r"^HugetlbPages:\s+(\d+) kB", re.MULTILINE)


def observe_hugepages(files: Files, domains: Iterable[Definition]) -> Hugepages:
    """`domains`: those of which it is of interest what they have already."""
    pools: list[Pool] = []
    for name in names(files, NODES):
        if match := _NODE.fullmatch(name):
            pools += _pools(files, f"{NODES}/{name}/hugepages", int(match[1]))
    if not pools:
        pools = _pools(files, GLOBAL, 0)
    default = _DEFAULT.search(text(files, "/proc/meminfo") or "")
    return Hugepages(
        pools=tuple(sorted(pools, key=lambda pool: (pool.page_kib, pool.node))),
        default_kib=int(default[1]) if default else DEFAULT,
        reserved={
            int(match[1]): number(files, f"{GLOBAL}/{name}/resv_hugepages") or 0
            for name in names(files, GLOBAL)
            if (match := _SIZE.fullmatch(name))
        },
        taken={domain.uuid: taken for domain in domains if (taken := _taken(files, domain)) is not None},
    )


def _pools(files: Files, folder: str, node: int) -> list[Pool]:
    found: list[Pool] = []
    for name in names(files, folder):
        match = _SIZE.fullmatch(name)
        total, free = (number(files, f"{folder}/{name}/{what}") for what in (NR, "free_hugepages"))
        if match and total is not None and free is not None:
            surplus = number(files, f"{folder}/{name}/surplus_hugepages") or 0
            path = f"{folder}/{name}/{NR}"
            found.append(
                Pool(path=path, node=node, page_kib=int(match[1]), total=total, free=free, surplus=surplus)
            )
    return found


def _taken(files: Files, domain: Definition) -> int | None:
    """KiB (hugetlb_report_usage). None where there is no QEMU, or its kernel does not count."""
    pid = qemu_pid(files, domain.name, domain.uuid)
    match = _TAKEN.search(text(files, f"/proc/{pid}/status") or "") if pid else None
    return int(match[1]) if match else None
