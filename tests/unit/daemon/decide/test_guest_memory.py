"""Which nodes a domain's memory counts as, and when its vCPUs are far from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.daemon.decide.cards import GPU, WIN11, domain, observed

from hostlerd.decide.guest_memory import ask_for_memory, far_from_memory, memory_nodes, near_memory
from hostlerd.model.cpus import Cpu, Node, Topology
from hostlerd.model.domains import Cell, Definition, Running
from hostlerd.model.guest_memory import Numatune, Placed
from hostlerd.model.observed import Observed
from hostlerd.model.settings import DomainPolicy, Settings

GIB = 1 << 20


def topology(*memory_gib: int) -> Topology:
    """Two CPUs a node; each node is 20 from the others, and 16 from its neighbour below."""
    count = len(memory_gib)
    cpus = tuple(
        Cpu(id=i, core=i, siblings=frozenset({i}), socket=0, node=i // 2, l3=None) for i in range(2 * count)
    )
    nodes = tuple(
        Node(
            id=n,
            cpus=frozenset({2 * n, 2 * n + 1}),
            memory_kib=gib * GIB,
            distances=tuple(10 if n == m else 16 if m == n - 1 else 20 for m in range(count)),
        )
        for n, gib in enumerate(memory_gib)
    )
    return Topology(cpus=cpus, nodes=nodes)


TWO = topology(8, 8)


def state(definition: Definition, placed: Placed | None = None, on: Topology = TWO) -> Observed:
    found = observed(running=(Running(live=definition, definition=definition),))
    return replace(found, topology=on, guest_memory={} if placed is None else {definition.uuid: placed})


def guest(pins: dict[int, set[int]], **more: object) -> Definition:
    return replace(
        domain(WIN11, GPU, vcpus=len(pins)),
        memory_kib=4 * GIB,
        vcpu_pins={i: frozenset(cpus) for i, cpus in pins.items()},
        **more,  # type: ignore[arg-type]
    )


ON_0 = guest({0: {0}, 1: {1}})


def test_it_is_asked_once_and_only_where_there_are_several_nodes() -> None:
    (question,) = ask_for_memory(state(ON_0))
    assert (question.kind, question.object) == ("memory", WIN11)
    assert not ask_for_memory(state(ON_0, Placed()))
    assert not ask_for_memory(state(ON_0, on=topology(8)))
    assert not ask_for_memory(state(ON_0, on=topology(8, 0)))


@pytest.mark.parametrize(
    ("tuning", "placed", "nodes"),
    [
        (None, None, ()),
        (None, Placed(), ()),
        (None, Placed(((0, 4 * GIB),)), ({0},)),
        (None, Placed(((0, 4 * GIB), (1, 1000))), ({0},)),
        (None, Placed(((0, 2 * GIB), (1, 2 * GIB))), ({0, 1},)),
        (None, Placed(((0, 1000),)), ()),  # it has hardly begun
        (Numatune(nodes=frozenset({1})), None, ({1},)),
        (Numatune(nodes=frozenset({1})), Placed(((0, 4 * GIB),)), ({1},)),
        (Numatune(mode="preferred", nodes=frozenset({1})), None, ()),
        (Numatune(mode="preferred", nodes=frozenset({1})), Placed(((0, 4 * GIB),)), ({0},)),
        (Numatune(nodes=frozenset({7})), None, ()),
    ],
)
def test_bound_memory_is_known_and_other_is_where_it_was_found(
    tuning: Numatune | None, placed: Placed | None, nodes: tuple[set[int], ...]
) -> None:
    definition = replace(ON_0, numatune=tuning)
    assert memory_nodes(state(definition, placed), definition, ()) == nodes


def test_of_each_cell() -> None:
    cells = (Cell(cpus=frozenset({0}), memory_kib=GIB), Cell(cpus=frozenset({1}), memory_kib=GIB))
    tuning = Numatune(cells={0: frozenset({1}), 1: frozenset({0})}, modes={0: "strict", 1: "strict"})
    definition = replace(ON_0, cells=cells, numatune=tuning)
    assert memory_nodes(state(definition), definition, (0, 1)) == ({1}, {0})
    half = replace(definition, numatune=replace(tuning, modes={0: "strict", 1: "preferred"}))
    assert memory_nodes(state(half), half, (0, 1)) == ()
    assert memory_nodes(state(half, Placed(((1, 4 * GIB),))), half, (0, 1)) == ({1}, {1})


@pytest.mark.parametrize(
    ("definition", "placed", "on", "reason"),
    [
        (ON_0, Placed(((0, 4 * GIB),)), TWO, ""),
        (ON_0, Placed(((0, 3 * GIB), (1, GIB))), TWO, ""),
        (
            ON_0,
            Placed(((0, 2 * GIB), (1, 2 * GIB))),
            TWO,
            "50 % of win11's memory (2.0 GiB) is on node 1, and its vCPUs are on node 0",
        ),
        (ON_0, Placed(((1, 1000),)), TWO, ""),
        (
            guest({0: {0}, 1: {2}}),
            Placed(((0, 4 * GIB),)),
            TWO,
            "1 of win11's 2 vCPUs are on node 1, and its memory is on node 0",
        ),
        (guest({0: {0}, 1: {2}}), Placed(((0, 2 * GIB), (1, 2 * GIB))), TWO, ""),
        (guest({0: {0, 1, 2, 3}}), Placed(((1, 4 * GIB),)), TWO, ""),  # it floats
        (guest({0: {2}, 1: {3}}), Placed(((0, 4 * GIB),)), topology(8, 0, 8), ""),  # 1 has none, 0 is nearest
        (
            guest({0: {2}, 1: {3}}),
            Placed(((2, 4 * GIB),)),
            topology(8, 0, 8),
            "node 2, and its vCPUs are on node 0",
        ),
    ],
)
def test_how_far(definition: Definition, placed: Placed, on: Topology, reason: str) -> None:
    cautions = far_from_memory(state(definition, placed, on), Settings())
    assert len(cautions) == bool(reason)
    assert all(reason in caution.reason for caution in cautions)


def test_what_to_do_about_it() -> None:
    placed = Placed(((1, 4 * GIB),))
    (caution,) = far_from_memory(state(ON_0, placed), Settings())
    assert caution.remedy.startswith("set write_config = true for win11")
    assert "VFIO" in caution.remedy
    written = Settings(domains=DomainPolicy(write_config=True))
    (caution,) = far_from_memory(state(ON_0, placed), written)
    assert caution.remedy.startswith("stop win11 and start it again")
    (caution,) = far_from_memory(state(replace(ON_0, hostdevs=()), placed), Settings())
    assert caution.remedy.startswith("`virsh numatune win11 --nodeset 0 --live` moves it")


def test_the_nearest_node_with_memory() -> None:
    assert near_memory(topology(8, 0, 8), [2]) == {0}
    assert near_memory(topology(8, 0, 8), [2, 4]) == {0, 2}
    assert near_memory(topology(0, 0), [2]) == {1}
