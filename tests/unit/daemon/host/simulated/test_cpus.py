"""The files that describe processors agree with each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlerd.host.simulated.cpus import CPUS, NODES, Processors, show
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import parse_cpu_list, parse_cpu_mask

SHAPES = st.builds(
    Processors,
    sockets=st.integers(1, 2),
    l3_kib=st.sampled_from([(32768,), (98304, 32768)]),
    cores_per_l3=st.integers(1, 3),
    threads=st.integers(1, 2),
    split=st.booleans(),
    nodes_by=st.sampled_from(["host", "socket", "l3"]),
)


@given(SHAPES)
def test_sets_are_partitions_and_masks_say_the_same(shape: Processors) -> None:
    tree = Tree()
    show(tree, shape)
    online = parse_cpu_list(tree.read(f"{CPUS}/online"))
    assert online == shape.all
    for cpu in online:
        folder = f"{CPUS}/cpu{cpu}"
        for name in ("thread_siblings", "core_cpus", "package_cpus"):
            cpus = parse_cpu_list(tree.read(f"{folder}/topology/{name}_list"))
            assert cpus == parse_cpu_mask(tree.read(f"{folder}/topology/{name}"))
            assert cpu in cpus
        l3 = parse_cpu_list(tree.read(f"{folder}/cache/index3/shared_cpu_list"))
        assert parse_cpu_list(tree.read(f"{folder}/topology/thread_siblings_list")) <= l3
    nodes = [name for name in tree.listdir(NODES) if name.startswith("node")]
    lists = [parse_cpu_list(tree.read(f"{NODES}/{node}/cpulist")) for node in nodes]
    assert sorted(cpu for cpus in lists for cpu in cpus) == sorted(online)
    assert {len(tree.read(f"{NODES}/{node}/distance").split()) for node in nodes} == {len(nodes)}


@pytest.mark.parametrize(
    ("name", "siblings", "l3", "nodes"),
    [("desktop", "2,10", "0-3,8-11", 1), ("lab", "2-3", "0-3", 2), ("server", "2,34", "0-7,32-39", 2)],
)
def test_built_in_shapes(name: str, siblings: str, l3: str, nodes: int) -> None:
    files = SimulatedHost(name).files
    assert files.read(f"{CPUS}/cpu2/topology/thread_siblings_list") == siblings + "\n"
    assert files.read(f"{CPUS}/cpu2/cache/index3/shared_cpu_list") == l3 + "\n"
    assert len([node for node in files.listdir(NODES) if node.startswith("node")]) == nodes
