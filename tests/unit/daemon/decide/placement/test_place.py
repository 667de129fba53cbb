"""Single placements: what a domain gets, and what it is told when that is not the best."""

from __future__ import annotations

from dataclasses import replace

from hostlerd.decide.placement import Assignment, Host, Need, Terms, place
from hostlerd.decide.placement.layout import Layout
from hostlerd.model.cpus import L3, CoreClass, Cpu, Node, Topology


def two_dies(*, cores: int = 4, kib: tuple[int, int] = (32768, 32768), nodes: int = 1) -> Topology:
    """Two L3 domains of some cores with two threads each; CPU c and c + 2 * cores are siblings."""
    total = 2 * cores
    cpus = tuple(
        Cpu(
            id=cpu,
            core=cpu % total,
            siblings=frozenset({cpu % total, cpu % total + total}),
            socket=0,
            node=cpu % total // cores if nodes == 2 else 0,
            l3=cpu % total // cores * cores,
        )
        for cpu in range(2 * total)
    )
    l3 = tuple(
        L3(id=first, cpus=frozenset(c.id for c in cpus if c.l3 == first), kib=size)
        for first, size in zip((0, cores), kib, strict=True)
    )
    node = tuple(
        Node(
            id=n,
            cpus=frozenset(c.id for c in cpus if c.node == n),
            memory_kib=1 << 20,
            distances=tuple(10 if n == m else 20 for m in range(nodes)),
        )
        for n in range(nodes)
    )
    return Topology(cpus=cpus, l3=l3, nodes=node)


def test_siblings_go_to_siblings_in_one_l3_away_from_the_boot_core() -> None:
    result = place(Host.of(two_dies()), [Need(name="game", vcpus=8, threads=2)], {})
    assert result.assignments["game"] == Assignment(vcpus=(4, 12, 5, 13, 6, 14, 7, 15))
    assert result.complete
    assert result.terms == Terms(free_l3=-1)


def test_the_large_cache_is_worth_the_boot_core() -> None:
    host = Host.of(two_dies(kib=(98304, 32768)))
    result = place(host, [Need(name="game", vcpus=8, threads=2, prefer="vcache")], {})
    given = result.assignments["game"]
    assert given is not None
    assert set(given.vcpus) == {0, 1, 2, 3, 8, 9, 10, 11}


def test_a_domain_stays_with_its_gpu() -> None:
    host = Host.of(two_dies(nodes=2), gpu_nodes=frozenset({1}))
    needs = [Need(name="game", vcpus=4, threads=2, gpu_node=1), Need(name="work", vcpus=4, threads=2)]
    given = place(host, needs, {}).assignments
    assert given["game"] is not None
    assert given["work"] is not None
    assert {host.cpus[cpu].node for cpu in given["game"].vcpus} == {1}
    assert {host.cpus[cpu].node for cpu in given["work"].vcpus} == {0}


def test_who_runs_gives_way_to_who_would_be_split() -> None:
    """`wide` needs a whole L3 domain; `small` moves to the other, beside `medium`."""
    host = Host.of(two_dies())
    needs = [
        Need(name="small", vcpus=2, threads=2),
        Need(name="medium", vcpus=2, threads=2),
        Need(name="wide", vcpus=8, threads=2),
    ]
    current = {"small": Assignment(vcpus=(4, 12)), "medium": Assignment(vcpus=(1, 9))}
    result = place(host, needs, current)
    assert result.assignments["medium"] == current["medium"]
    assert result.terms.l3_span == 0
    assert result.terms.migrations == 4


def test_a_search_that_the_budget_ended_says_so() -> None:
    """`wide` gets what is free as it is."""
    needs = [Need(name=f"small{i}", vcpus=2, threads=2) for i in range(2)]
    needs.append(Need(name="wide", vcpus=8, threads=2))
    current = {"small0": Assignment(vcpus=(4, 12)), "small1": Assignment(vcpus=(1, 9))}
    result = place(Host.of(two_dies()), needs, current, budget=1)
    assert not result.complete
    assert result.terms.migrations == 0
    assert result.assignments["wide"] is not None
    assert place(Host.of(two_dies()), needs, current).complete


def test_who_must_not_move_stays() -> None:
    host = Host.of(two_dies())
    needs = [
        Need(name="left", vcpus=2, threads=2, movable=False),
        Need(name="right", vcpus=2, threads=2, movable=False),
        Need(name="wide", vcpus=8, threads=2),
    ]
    current = {"left": Assignment(vcpus=(1, 9)), "right": Assignment(vcpus=(4, 12))}
    result = place(host, needs, current)
    assert result.assignments["left"] == current["left"]
    assert result.assignments["right"] == current["right"]
    assert result.terms.l3_span == 1


def test_who_does_not_fit_floats_and_nobody_is_demoted() -> None:
    host = Host.of(two_dies(cores=2), min_cpus=2)
    needs = [Need(name="a", vcpus=4, threads=2), Need(name="b", vcpus=4, threads=2)]
    current = {"a": Assignment(vcpus=(2, 6, 3, 7))}
    result = place(host, needs, current)
    assert result.assignments == {"a": current["a"], "b": None}


def test_a_higher_priority_takes_the_place_of_a_lower() -> None:
    host = Host.of(two_dies(cores=2), min_cpus=2)
    needs = [Need(name="a", vcpus=4, threads=2), Need(name="b", vcpus=4, threads=2, priority=1)]
    result = place(host, needs, {"a": Assignment(vcpus=(2, 6, 3, 7))})
    assert result.assignments["a"] is None
    assert result.assignments["b"] is not None


def test_the_emulator_gets_a_sibling_that_would_stay_idle() -> None:
    needs = [Need(name="odd", vcpus=3, threads=1, emulator=1)]
    given = place(Host.of(two_dies()), needs, {}).assignments["odd"]
    assert given is not None
    assert len({cpu % 8 for cpu in given.cpus}) == 2
    assert not given.idle


def test_isolated_vcpus_keep_their_siblings_idle() -> None:
    given = place(Host.of(two_dies()), [Need(name="rt", vcpus=3, smt="isolate")], {}).assignments["rt"]
    assert given is not None
    assert len(given.idle) == 3
    assert {cpu % 8 for cpu in given.idle} == {cpu % 8 for cpu in given.vcpus}


def test_new_vcpus_join_the_old_ones() -> None:
    current = {"vm": Assignment(vcpus=(4, 12, 5, 13))}
    given = place(Host.of(two_dies()), [Need(name="vm", vcpus=6, threads=2)], current).assignments["vm"]
    assert given is not None
    assert given.vcpus[:4] == (4, 12, 5, 13)
    assert {cpu % 8 for cpu in given.vcpus[4:]} < {6, 7}


def test_memory_that_cannot_follow_holds_the_vcpus() -> None:
    """The other node would give it one L3 domain, but its memory is on this one."""
    host = Host.of(two_dies(nodes=2))
    need = Need(name="vm", vcpus=2, threads=2, memory=(frozenset({0}),), gpu_node=1)
    result = place(host, [need], {"vm": Assignment(vcpus=(0, 8))})
    assert result.assignments["vm"] == Assignment(vcpus=(0, 8))


def test_cpus_gone_off_line_are_left() -> None:
    topology = two_dies()
    without = Topology(
        cpus=tuple(cpu for cpu in topology.cpus if cpu.id not in (4, 12)),
        offline=frozenset({4, 12}),
        l3=topology.l3,
        nodes=topology.nodes,
    )
    need = Need(name="vm", vcpus=4, threads=2, movable=False)
    given = place(Host.of(without), [need], {"vm": Assignment(vcpus=(4, 12, 5, 13))}).assignments["vm"]
    assert given is not None
    assert given.vcpus[2:] == (5, 13)
    assert not {4, 12} & set(given.cpus)


def test_a_host_without_caches_nodes_or_room() -> None:
    cpus = tuple(Cpu(id=i, core=i, siblings=frozenset({i}), socket=0, node=0, l3=None) for i in range(2))
    host = Host.of(Topology(cpus=cpus))
    result = place(host, [Need(name="one", vcpus=1), Need(name="two", vcpus=2)], {})
    assert result.assignments["one"] == Assignment(vcpus=(1,))
    assert result.assignments["two"] is None
    nothing = place(Host.of(Topology(cpus=cpus), must=frozenset({0, 1})), [Need(name="one", vcpus=1)], {})
    assert nothing.assignments == {"one": None}
    assert place(host, [], {}).assignments == {}


def booted(
    *, isolated: set[int] | None = None, nohz_full: set[int] | None = None, **shape: object
) -> Topology:
    """Two dies of a kernel with isolcpus= and nohz_full=."""
    topology = two_dies(**shape)
    return replace(topology, isolated=frozenset(isolated or ()), nohz_full=frozenset(nohz_full or ()))


def test_between_equals_the_cpus_the_kernel_keeps_off_are_taken() -> None:
    need = Need(name="rt", vcpus=2, threads=2)
    for topology in (booted(isolated={5, 13}), booted(nohz_full={5, 13})):
        result = place(Host.of(topology), [need], {})
        assert result.assignments["rt"] == Assignment(vcpus=(5, 13))


def test_no_term_is_given_up_for_them() -> None:
    """The V-cache is on the other die."""
    host = Host.of(booted(kib=(98304, 32768), isolated={4, 5, 12, 13}))
    given = place(host, [Need(name="game", vcpus=4, threads=2, prefer="vcache")], {}).assignments["game"]
    assert given is not None
    assert set(given.vcpus) <= {0, 1, 2, 3, 8, 9, 10, 11}
    running = {"rt": Assignment(vcpus=(6, 14))}
    stays = place(Host.of(booted(isolated={5, 13})), [Need(name="rt", vcpus=2, threads=2)], running)
    assert stays.assignments == running


def test_the_host_keeps_cpus_that_its_work_spreads_over() -> None:
    """On CPUs of isolcpus nothing is balanced, so they are no reserve for the host."""
    everything_but_core_0 = set(range(16)) - {0, 8}
    host = Host.of(booted(kib=(98304, 32768), isolated=everything_but_core_0), min_cpus=2)
    wide = Need(name="wide", vcpus=14, threads=2, prefer="vcache")
    given = place(host, [wide], {}).assignments["wide"]
    assert given is not None
    assert set(given.cpus) == everything_but_core_0
    one_more = place(host, [replace(wide, vcpus=16)], {}).assignments["wide"]
    assert one_more is None
    # Where there are too few of the others, isolated ones have to do.
    few = Host.of(booted(isolated=set(range(16)) - {0}), min_cpus=2)
    given = place(few, [wide], {}).assignments["wide"]
    assert given is not None
    assert len(given.cpus) == 14


def test_buckets_are_cores_that_are_alike() -> None:
    """A core of which the host keeps a thread is a bucket of its own, as narrow as what is left."""
    layout = Layout(host=Host.of(two_dies(), must=frozenset({0}), taken=frozenset({5})))
    assert [(b.l3, b.width, b.beside_host, b.cores) for b in layout.buckets] == [
        (0, 1, True, (0,)),
        (0, 2, False, (1, 2, 3)),
        (4, 1, False, (5,)),
        (4, 2, False, (4, 6, 7)),
    ]
    assert {b.core_class for b in layout.buckets} == {CoreClass.UNIFORM}
