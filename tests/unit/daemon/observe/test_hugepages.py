"""Pools as kernels with and without NUMA show them, and what a starting domain's QEMU has."""

from __future__ import annotations

from hostlerd.host.simulated.tree import Tree
from hostlerd.model.domains import Definition
from hostlerd.model.hugepages import Hugepages, Pool
from hostlerd.observe.hugepages import observe_hugepages

UUID = "6695eb01-f6a4-8304-79aa-000000000001"
WIN11 = Definition(name="win11", uuid=UUID)
NODES = "/sys/devices/system/node"
GLOBAL = "/sys/kernel/mm/hugepages"


def tree(files: dict[str, str]) -> Tree:
    found = Tree()
    for path, text in files.items():
        found.put(path, text)
    return found


def pool(folder: str, *counts: int) -> dict[str, str]:
    names = ("nr_hugepages", "free_hugepages", "surplus_hugepages")
    return {f"{folder}/{name}": f"{count}\n" for name, count in zip(names, counts, strict=False)}


def test_a_pool_a_node_and_size() -> None:
    files = tree(
        {
            **pool(f"{NODES}/node0/hugepages/hugepages-2048kB", 10, 4, 1),
            **pool(f"{NODES}/node1/hugepages/hugepages-1048576kB", 2, 2, 0),
            **pool(f"{NODES}/node1/hugepages/odd", 2, 2, 0),
            f"{NODES}/online": "0-1\n",
            f"{GLOBAL}/hugepages-2048kB/resv_hugepages": "3\n",
            f"{GLOBAL}/hugepages-1048576kB/resv_hugepages": "0\n",
            "/proc/meminfo": "MemTotal:  1 kB\nHugetlb:  0 kB\nHugepagesize:    1048576 kB\n",
        }
    )
    node0 = f"{NODES}/node0/hugepages/hugepages-2048kB/nr_hugepages"
    node1 = f"{NODES}/node1/hugepages/hugepages-1048576kB/nr_hugepages"
    found = observe_hugepages(files, ())
    assert found == Hugepages(
        pools=(
            Pool(path=node0, node=0, page_kib=2048, total=10, free=4, surplus=1),
            Pool(path=node1, node=1, page_kib=1 << 20, total=2, free=2),
        ),
        default_kib=1 << 20,
        reserved={2048: 3, 1 << 20: 0},
    )
    assert found.sizes == [2048, 1 << 20]
    assert found.pools[0].lasting == 9


def test_a_kernel_without_numa() -> None:
    folder = f"{GLOBAL}/hugepages-2048kB"
    [found] = observe_hugepages(tree({**pool(folder, 8, 8, 0), f"{folder}/resv_hugepages": "0\n"}), ()).pools
    assert (found.node, found.path) == (0, f"{folder}/nr_hugepages")


def test_a_kernel_without_huge_pages() -> None:
    assert observe_hugepages(Tree(), (WIN11,)) == Hugepages()


def test_what_a_qemu_has_already() -> None:
    files = {
        "/run/libvirt/qemu/win11.pid": "4001\n",
        "/proc/4001/cmdline": f"qemu\0-uuid\0{UUID}\0",
        "/proc/4001/status": "Name:\tqemu\nVmPTE:\t  40 kB\nHugetlbPages:\t   524288 kB\nCoreDumping:\t0\n",
    }
    assert observe_hugepages(tree(files), (WIN11,)).taken == {UUID: 524288}
    for path, text in (("/run/libvirt/qemu/win11.pid", "1\n"), ("/proc/4001/status", "Name:\tqemu\n")):
        assert observe_hugepages(tree({**files, path: text}), (WIN11,)).taken == {}
