"""How many pages of which size, and on which nodes."""

from __future__ import annotations

from tests.unit.daemon.decide.hugepages.pools import GIB, MIB, WIN11, Cell, guest, pool, state

from hostlerd.decide.hugepages.needs import Need, needs
from hostlerd.model.domains import Definition
from hostlerd.model.guest_memory import Numatune
from hostlerd.model.hugepages import Dimm, Hugepages, PageSize
from hostlerd.model.plan import Placement

POOLS = (pool(0), pool(1), pool(0, size=GIB), pool(1, size=GIB))
CELLS = (Cell(cpus=frozenset({0, 1}), memory_kib=GIB), Cell(cpus=frozenset({2, 3}), memory_kib=2 * GIB))
BOTH = frozenset({0, 1})


def of(definition: Definition, placement: Placement | None = None) -> list[Need]:
    return needs(state(*POOLS), Hugepages(pools=POOLS), definition, placement)


def where(*found: Need) -> list[tuple[int, int, tuple[int, ...]]]:
    return [(need.page_kib, need.pages, need.where) for need in found]


def test_the_default_size_for_all_and_rounded_up():
    [need] = of(guest(mib=101))
    assert (need.page_kib, need.pages) == (MIB, 51)
    [need] = of(guest(mib=1025, page_sizes=(PageSize(kib=GIB),)))
    assert (need.page_kib, need.pages) == (GIB, 2)


def test_pages_of_the_usual_size_are_not_huge():
    assert of(guest(page_sizes=(PageSize(kib=4),))) == []


def test_cells_have_their_own_and_the_rest_that_of_all():
    own = PageSize(kib=GIB, cells=frozenset({1}))
    assert where(*of(guest(cells=CELLS, page_sizes=(PageSize(kib=MIB), own)))) == [
        (MIB, 512, (0, 1)),
        (GIB, 2, (0, 1)),
    ]
    assert where(*of(guest(cells=CELLS, page_sizes=(own,)))) == [(GIB, 2, (0, 1))]


def test_memory_devices():
    dimms = (Dimm(kib=GIB, cell=1), Dimm(kib=GIB, cell=0, page_kib=GIB))
    assert where(*of(guest(cells=CELLS, dimms=dimms))) == [
        (MIB, 512, (0, 1)),
        (MIB, 1024, (0, 1)),
        (MIB, 512, (0, 1)),
        (GIB, 1, (0, 1)),
    ]
    [one] = of(guest(mib=2048, page_sizes=(), dimms=(Dimm(kib=GIB, page_kib=GIB),)))
    assert (one.page_kib, one.pages) == (GIB, 1)
    assert where(*of(guest(mib=2048, dimms=(Dimm(kib=GIB),)))) == [(MIB, 512, (0, 1))] * 2


def test_bound_memory_is_needed_there_alone():
    for mode in ("strict", "restrictive"):
        [need] = of(guest(numatune=Numatune(mode=mode, nodes=frozenset({1}))))
        assert (need.where, need.enough, need.else_) == ((1,), {1}, {1})


def test_preferred_memory_may_be_elsewhere_at_the_last():
    [need] = of(guest(numatune=Numatune(mode="preferred", nodes=frozenset({1}))))
    assert (need.where, need.enough, need.else_) == ((1,), {1}, BOTH)


def test_a_cell_has_its_own_nodes_or_those_of_all():
    tuning = Numatune(nodes=frozenset({0}), cells={1: frozenset({1})}, modes={1: "strict"})
    assert where(*of(guest(cells=CELLS, numatune=tuning))) == [(MIB, 512, (0,)), (MIB, 1024, (1,))]


def test_bound_to_nothing_it_is_added_where_its_cpus_are_and_may_be_anywhere():
    cpus = tuple(frozenset({cpu}) for cpu in (2, 3, 2, 3))
    [need] = of(guest(), Placement(uuid=WIN11, vcpus=cpus))
    assert (need.where, need.enough, need.else_) == ((1,), BOTH, BOTH)
    each = tuple(frozenset({cpu}) for cpu in (2, 3, 0, 1))
    assert where(*of(guest(cells=CELLS), Placement(uuid=WIN11, vcpus=each))) == [
        (MIB, 512, (1,)),
        (MIB, 1024, (0,)),
    ]


def test_one_that_floats_has_them_everywhere():
    assert where(*of(guest(), Placement(uuid=WIN11, vcpus=None))) == [(MIB, 50, (0, 1))]
    pinned = Placement(uuid=WIN11, vcpus=None, explicit=frozenset({0}))
    assert where(*of(guest(), pinned)) == [(MIB, 50, (0,))]


def test_a_node_that_there_is_not_binds_nothing():
    assert where(*of(guest(numatune=Numatune(nodes=frozenset({7}))))) == [(MIB, 50, (0, 1))]
