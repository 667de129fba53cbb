"""Processors of recorded hosts, and of hosts that are odd in one way."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.daemon.observe.recorded import shared, tree

from hostler.errors import BadInput
from hostlerd.host.files import open_files
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpus import CoreClass, Topology
from hostlerd.model.cpuset import CpuSet
from hostlerd.observe.cpus import observe_cpus

CPU, NODE = "/sys/devices/system/cpu", "/sys/devices/system/node"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What hwloc 2.9 says of the tarball, and the name it has. `last`: siblings and L3 of the highest CPU."""

    online: int
    sockets: int
    cores: int
    l3: int
    l3_kib: int | None
    nodes: dict[int, int]
    """Id to number of CPUs."""
    last: tuple[list[int], int | None]
    offline: tuple[int, ...] = ()
    distance: int = 10
    """From the first node to the last."""
    efficiency: int = 0


FACTS = {
    "16em64t-4s2c2t-offlines": Facts(
        online=12,
        offline=(2, 5, 13, 14),
        sockets=4,
        cores=7,
        l3=4,
        l3_kib=4096,
        nodes={0: 12},
        last=([7, 15], 3),
    ),
    "20em64t-hybrid-1p6c2t+2ca4co1t": Facts(
        online=20, sockets=1, cores=14, l3=1, l3_kib=24576, nodes={0: 20}, last=([19], 0), efficiency=8
    ),
    "2i386-2t-hugepagesizecount": Facts(
        online=2, sockets=1, cores=1, l3=0, l3_kib=None, nodes={0: 2}, last=([0, 1], None)
    ),
    "32amd64-4s2n4c-cgroup2": Facts(
        online=32,
        sockets=4,
        cores=32,
        l3=8,
        l3_kib=5118,
        nodes=dict.fromkeys(range(8), 4),
        last=([31], 28),
        distance=22,
    ),
    "40intel64-2g2n4c+pcilocality": Facts(
        online=40,
        sockets=4,
        cores=40,
        l3=4,
        l3_kib=30720,
        nodes=dict.fromkeys(range(4), 10),
        last=([39], 3),
        distance=20,
    ),
    # Bulldozer: two cores of a module are "thread siblings" to the kernel, and cores to hwloc and to us.
    "64amd64-4s2n4ca2co": Facts(
        online=64,
        sockets=4,
        cores=64,
        l3=8,
        l3_kib=6144,
        nodes=dict.fromkeys(range(8), 8),
        last=([63], 56),
        distance=22,
    ),
    "96em64t-4no4pa3ca2co": Facts(
        online=96,
        sockets=16,
        cores=96,
        l3=16,
        l3_kib=16384,
        nodes=dict.fromkeys(range(4), 24),
        last=([95], 75),
        distance=26,
    ),
    # Six more nodes are the cards' own memory.
    "nvidiagpunumanodes": Facts(
        online=32,
        sockets=2,
        cores=8,
        l3=4,
        l3_kib=10240,
        nodes={0: 16, 8: 16},
        last=([100, 101, 102, 103], 96),
        distance=40,
    ),
}


@pytest.mark.parametrize("name", FACTS)
def test_recorded_host(name: str) -> None:
    facts = FACTS[name]
    topology = observe_cpus(open_files(str(shared("topologies", f"{name}.tar.bz2"))))
    assert len(topology.online) == facts.online
    assert topology.offline - topology.online == topology.offline
    if name.endswith("offlines"):
        assert topology.offline == frozenset(facts.offline)
    assert len({cpu.socket for cpu in topology.cpus}) == facts.sockets
    assert len(topology.cores) == facts.cores
    assert len(topology.l3) == facts.l3
    assert {cache.kib for cache in topology.l3} == ({facts.l3_kib} if facts.l3 else set())
    assert {node.id: len(node.cpus) for node in topology.nodes} == facts.nodes
    assert all(node.memory_kib > 0 for node in topology.nodes)
    assert topology.distance(topology.nodes[0].id, topology.nodes[-1].id) == facts.distance
    last = topology.by_id[max(topology.online)]
    assert (sorted(last.siblings), last.l3) == facts.last
    efficiency = [cpu.id for cpu in topology.cpus if cpu.core_class is CoreClass.EFFICIENCY]
    assert len(efficiency) == facts.efficiency
    consistent(topology)


def test_every_recorded_host_has_facts() -> None:
    found = {path.name.removesuffix(".tar.bz2") for path in shared("topologies").iterdir()}
    assert found <= set(FACTS)


def consistent(topology: Topology) -> None:
    """What holds for every host."""
    assert [cpu.id for cpu in topology.cpus] == sorted(topology.online)
    for cpu in topology.cpus:
        assert cpu.id in cpu.siblings
        assert cpu.core == min(cpu.siblings)
        assert all(topology.by_id[other].siblings == cpu.siblings for other in cpu.siblings)
        assert cpu.node in {node.id for node in topology.nodes}
    for cache in topology.l3:
        assert cache.id == min(cache.cpus)
        assert {cpu.id for cpu in topology.cpus if cpu.l3 == cache.id} == cache.cpus
    assert all(len(node.distances) == len(topology.nodes) for node in topology.nodes)


def mask(cpus: list[int]) -> str:
    """As the kernel prints it: groups of 32 bits."""
    value = sum(1 << cpu for cpu in cpus)
    groups = []
    while value or not groups:
        groups.append(f"{value & 0xFFFFFFFF:08x}")
        value >>= 32
    return ",".join(reversed(groups)) + "\n"


def bare(count: int) -> dict[str, str]:
    return {f"{CPU}/cpu{cpu}/topology/": "" for cpu in range(count)}


def test_masks_alone_are_enough() -> None:
    files = {
        f"{CPU}/cpu{cpu}/topology/{name}": mask(members)
        for cpu in range(4)
        for name, members in (("thread_siblings", [cpu % 2, cpu % 2 + 2]), ("core_siblings", [0, 1, 2, 3]))
    }
    topology = observe_cpus(tree(files))
    assert topology.cores == {0: (0, 2), 1: (1, 3)}
    assert {cpu.socket for cpu in topology.cpus} == {0}
    consistent(topology)


def test_a_mask_wider_than_any_list_is_read() -> None:
    files = {f"{CPU}/online": "0-2047\n"}
    for cpu in range(2048):
        files[f"{CPU}/cpu{cpu}/topology/core_cpus"] = mask([cpu & ~1, cpu | 1])
    topology = observe_cpus(tree(files))
    assert len(topology.online) == 2048
    assert topology.by_id[2047].core == 2046


def test_lists_are_read_where_there_are_no_masks() -> None:
    files = {f"{CPU}/cpu{cpu}/topology/core_cpus_list": "0-1\n" for cpu in range(2)}
    assert observe_cpus(tree(files)).cores == {0: (0, 1)}


def test_a_nul_at_the_end_does_no_harm() -> None:
    files = {f"{CPU}/cpu{cpu}/topology/core_cpus": mask([0, 1]) + "\0" for cpu in range(2)}
    assert observe_cpus(tree(files)).cores == {0: (0, 1)}


def test_a_cpu_is_offline_by_the_list_by_its_own_file_or_without_topology() -> None:
    by_list = observe_cpus(tree({**bare(4), f"{CPU}/online": "0,2-3\n"}))
    by_file = observe_cpus(tree({**bare(4), f"{CPU}/cpu1/online": "0\n", f"{CPU}/cpu2/online": "1\n"}))
    by_folder = observe_cpus(
        tree({**bare(1), **{f"{CPU}/cpu{n}/topology/": "" for n in (2, 3)}, f"{CPU}/cpu1/": ""})
    )
    for topology in (by_list, by_file, by_folder):
        assert topology.online == {0, 2, 3}
        assert topology.offline == {1}
        assert topology.possible == {0, 1, 2, 3}


def test_an_offline_cpu_is_in_no_set() -> None:
    files = {**bare(2), f"{CPU}/online": "0\n", f"{NODE}/node0/cpumap": mask([0, 1])}
    for name in ("core_cpus", "package_cpus"):
        files[f"{CPU}/cpu0/topology/{name}"] = mask([0, 1])
    files |= {
        f"{CPU}/cpu0/cache/index3/level": "3\n",
        f"{CPU}/cpu0/cache/index3/shared_cpu_map": mask([0, 1]),
    }
    topology = observe_cpus(tree(files))
    assert topology.by_id[0].siblings == {0}
    assert topology.l3[0].cpus == {0}
    assert topology.nodes[0].cpus == {0}


def test_without_topology_folders_every_cpu_is_a_core() -> None:
    topology = observe_cpus(tree({f"{CPU}/cpu{cpu}/": "" for cpu in range(3)}))
    assert topology.cores == {0: (0,), 1: (1,), 2: (2,)}
    assert topology.nodes[0].cpus == {0, 1, 2}
    consistent(topology)


CPUINFO = "\n\n".join(
    f"processor\t: {cpu}\nvendor_id\t: GenuineIntel\nphysical id\t: {cpu // 4}\ncore id\t\t: {cpu % 2}\nflags\t: fpu"
    for cpu in range(8)
)


def test_cpuinfo_alone_gives_cores_and_sockets() -> None:
    topology = observe_cpus(tree({"/proc/cpuinfo": CPUINFO, "/proc/meminfo": "MemTotal:  1024 kB\n"}))
    assert topology.cores == {0: (0, 2), 1: (1, 3), 4: (4, 6), 5: (5, 7)}
    assert {cpu.id: cpu.socket for cpu in topology.cpus} == {n: n // 4 for n in range(8)}
    assert [(node.id, node.memory_kib, node.distances) for node in topology.nodes] == [(0, 1024, (10,))]
    consistent(topology)


def test_cpuinfo_of_s390_has_another_form() -> None:
    text = "vendor_id       : IBM/S390\nprocessor 0: version = FF\nprocessor 1: version = FF\n"
    assert observe_cpus(tree({"/proc/cpuinfo": text})).online == {0, 1}


def test_no_processor_at_all_is_bad_input() -> None:
    with pytest.raises(BadInput) as caught:
        observe_cpus(tree({"/proc/version": "Linux\n"}))
    assert "no processors" in caught.value.sentence


def test_package_ids_that_repeat_are_replaced() -> None:
    files: dict[str, str] = {}
    for cpu in range(4):
        files[f"{CPU}/cpu{cpu}/topology/package_cpus"] = mask([cpu & 2, cpu & 2 | 1])
        files[f"{CPU}/cpu{cpu}/topology/physical_package_id"] = "-1\n"
    assert [cpu.socket for cpu in observe_cpus(tree(files)).cpus] == [0, 0, 1, 1]
    for cpu in range(4):
        files[f"{CPU}/cpu{cpu}/topology/physical_package_id"] = f"{36 + 4 * (cpu // 2)}\n"
    assert [cpu.socket for cpu in observe_cpus(tree(files)).cpus] == [36, 36, 40, 40]


def test_one_wrong_view_loses_against_many() -> None:
    """As in hwloc's 40intel64-4n10c+pci-conflicts."""
    files = {
        f"{CPU}/cpu{cpu}/topology/package_cpus": mask([c for c in range(12) if c % 3 == cpu % 3])
        for cpu in range(12)
    }
    files[f"{CPU}/cpu2/topology/package_cpus"] = mask([0, 1, 2])
    topology = observe_cpus(tree(files))
    assert [cpu.socket for cpu in topology.cpus] == [0, 1, 2] * 4


@settings(deadline=None)
@given(st.lists(st.frozensets(st.integers(0, 11)), min_size=12, max_size=12))
def test_views_of_any_kind_give_disjoint_sets(views: list[CpuSet]) -> None:
    files: dict[str, str] = {}
    for cpu, view in enumerate(views):
        for name in ("core_cpus", "package_cpus"):
            files[f"{CPU}/cpu{cpu}/topology/{name}"] = mask(sorted(view))
        files[f"{CPU}/cpu{cpu}/cache/index3/level"] = "3\n"
        files[f"{CPU}/cpu{cpu}/cache/index3/shared_cpu_map"] = mask(sorted(view))
    consistent(observe_cpus(tree(files)))


def test_level_3_alone_counts_and_not_for_instructions() -> None:
    files = {**bare(2)}
    for index, (level, kind, members) in enumerate(
        [(1, "Data", [0]), (2, "Unified", [0]), (3, "Instruction", [0])]
    ):
        files |= {
            f"{CPU}/cpu0/cache/index{index}/level": f"{level}\n",
            f"{CPU}/cpu0/cache/index{index}/type": f"{kind}\n",
            f"{CPU}/cpu0/cache/index{index}/shared_cpu_map": mask(members),
        }
    assert observe_cpus(tree(files)).l3 == ()
    files |= {
        f"{CPU}/cpu0/cache/index9/level": "3\n",
        f"{CPU}/cpu0/cache/index9/type": "Unified\n",
        f"{CPU}/cpu0/cache/index9/size": "32768K\n",
        f"{CPU}/cpu0/cache/index9/shared_cpu_list": "0-1\n",
    }
    (cache,) = observe_cpus(tree(files)).l3
    assert (cache.id, cache.cpus, cache.kib) == (0, {0, 1}, 32768)


def test_an_empty_cache_mask_is_the_core() -> None:
    files = {f"{CPU}/cpu{cpu}/topology/thread_siblings": mask([0, 1]) for cpu in range(2)}
    files |= {f"{CPU}/cpu{cpu}/cache/index3/level": "3\n" for cpu in range(2)}
    files |= {f"{CPU}/cpu{cpu}/cache/index3/shared_cpu_map": mask([]) for cpu in range(2)}
    assert [cache.cpus for cache in observe_cpus(tree(files)).l3] == [{0, 1}]


def nodes(maps: dict[int, list[int]], **more: str) -> Tree:
    files = {**bare(4), **{f"{NODE}/node{n}/cpumap": mask(cpus) for n, cpus in maps.items()}, **more}
    return tree(files)


def test_a_node_without_cpus_is_kept() -> None:
    topology = observe_cpus(nodes({0: [0, 1, 2, 3], 2: []}, **{f"{NODE}/node0/distance": "10 17\n"}))
    assert [(n.id, sorted(n.cpus), n.distances) for n in topology.nodes] == [
        (0, [0, 1, 2, 3], (10, 17)),
        (2, [], (20, 10)),
    ]


def test_nodes_that_overlap_are_left_out_unless_made_up() -> None:
    maps = {n: [0, 1, 2, 3] for n in range(4)}
    assert [node.id for node in observe_cpus(nodes(maps)).nodes] == [0]
    made_up = observe_cpus(nodes(maps, **{"/proc/cmdline": "quiet numa=fake=4\n"}))
    assert [node.id for node in made_up.nodes] == [0, 1, 2, 3]
    assert {cpu.node for cpu in made_up.cpus} == {0}


def test_a_node_that_is_not_online_is_none() -> None:
    topology = observe_cpus(nodes({0: [0, 1], 1: [2, 3]}, **{f"{NODE}/online": "0\n"}))
    assert [node.id for node in topology.nodes] == [0]
    assert topology.by_id[3].node == 0


def test_isolated_and_nohz_full_and_what_kernels_print_for_none() -> None:
    more = {f"{CPU}/isolated": "2-3\n", f"{CPU}/nohz_full": "  (null)\n"}
    topology = observe_cpus(tree({**bare(4), **more}))
    assert topology.isolated == {2, 3}
    assert topology.nohz_full == frozenset()


def test_the_highest_clock_is_in_mhz() -> None:
    topology = observe_cpus(tree({**bare(2), f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "4950195\n"}))
    assert [cpu.max_mhz for cpu in topology.cpus] == [4950.195, None]
