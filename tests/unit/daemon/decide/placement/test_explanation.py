"""What a domain is told of its placement, and that it is true of the planner."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, assume, given, settings
from tests.placement import score
from tests.unit.daemon.decide.placement.test_place import two_dies
from tests.unit.daemon.decide.placement.tiny import State, streams, written

from hostlerd.decide.placement import Assignment, Host, Need, Scene, explain, place
from hostlerd.decide.placement.standing import standing
from hostlerd.model.cpus import CoreClass, Topology
from hostlerd.model.explanation import Term

FREELY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
CORE = "undedicated displaced smt class node_span locality l3_span cache_pref".split()


def scene(host: Host, needs: list[Need], current: dict[str, Assignment | None], **more: object) -> Scene:
    answer = place(host, needs, current).assignments
    return Scene(host=host, needs=tuple(needs), current=current, assignments=answer, **more)  # type: ignore[arg-type]


def told(found: Scene, domain: str) -> dict[str, Term]:
    return {term.term: term for term in explain(found, domain)}


def sentence(term: Term) -> str:
    return f"{term.reached}: {term.why}"


def test_the_best_there_is_has_nothing_in_its_way() -> None:
    terms = told(scene(Host.of(two_dies()), [Need(name="game", vcpus=8, threads=2)], {}), "game")
    assert list(terms) == CORE
    assert not any(term.why or term.missed for term in terms.values())
    assert terms["l3_span"].reached == "L3 4"
    assert terms["smt"].reached == "4 of 4 guest cores on host cores of their own"
    assert terms["class"].reached == "all cores are alike"


def test_who_is_split_is_told_by_whom() -> None:
    needs = [
        Need(name="left", vcpus=2, threads=2, movable=False),
        Need(name="right", vcpus=2, threads=2, movable=False),
        Need(name="wide", vcpus=8, threads=2),
    ]
    current = {"left": Assignment(vcpus=(1, 9)), "right": Assignment(vcpus=(4, 12))}
    found = scene(Host.of(two_dies()), needs, current, names={"left": "work"})
    terms = told(found, "wide")
    assert (terms["l3_span"].value, terms["l3_span"].best) == (2, 1)
    assert sentence(terms["l3_span"]) == (
        "2 L3 domains instead of 1 (0 and 4): L3 0 has 3 free cores, 4 are needed; stopping `work` would free them"
    )
    assert terms["l3_shared"].reached == "L3 domains 0 and 4 with `work` and `right`"


def test_who_floats_is_told_why_and_has_no_other_term() -> None:
    host = Host.of(two_dies(cores=2), min_cpus=2)
    needs = [Need(name="a", vcpus=4, threads=2), Need(name="b", vcpus=4, threads=2)]
    terms = told(scene(host, needs, {"a": Assignment(vcpus=(2, 6, 3, 7))}), "b")
    assert {name: (term.value, term.best) for name, term in terms.items()} == {"undedicated": (4, 0)}
    assert terms["undedicated"].why == "4 CPUs needed, 2 free; stopping `a` would free them"


def test_who_is_too_large_is_told_what_the_host_has() -> None:
    terms = told(scene(Host.of(two_dies(cores=2), min_cpus=2), [Need(name="a", vcpus=10)], {}), "a")
    assert not terms["undedicated"].missed
    assert terms["undedicated"].why == "10 CPUs needed, and this host can give away 6"


def test_memory_that_cannot_follow_is_the_reason_and_a_new_start_the_remedy() -> None:
    host = Host.of(two_dies(nodes=2))
    need = Need(name="vm", vcpus=4, threads=2, gpu_node=1, memory=(frozenset({0}),))
    terms = told(scene(host, [need], {"vm": Assignment(vcpus=(1, 9, 2, 10))}), "vm")
    assert terms["displaced"].reached == "on node 0, as its vCPUs are"
    assert sentence(terms["locality"]) == (
        "on node 0, its device is at node 1: its memory is on node 0 and cannot follow it; "
        "starting `vm` again would put that right"
    )


def test_who_is_never_moved_is_told_to_start_again() -> None:
    need = Need(name="vm", vcpus=4, threads=2, movable=False)
    terms = told(scene(Host.of(two_dies()), [need], {"vm": Assignment(vcpus=(1, 9, 4, 12))}), "vm")
    assert terms["l3_span"].why == "it is never moved while it runs; starting `vm` again would put that right"


def test_a_domain_that_its_own_definition_pins_can_be_in_the_way() -> None:
    host = Host.of(two_dies(), taken=frozenset({1, 9, 5, 13}))
    needs = [Need(name="wide", vcpus=8, threads=2)]
    found = scene(host, needs, {}, pinned={"mine": frozenset({1, 9}), "yours": frozenset({5, 13})})
    term = told(found, "wide")["l3_span"]
    assert sentence(term) == (
        "2 L3 domains instead of 1 (0 and 4): L3 0 has 3 free cores, 4 are needed; stopping `mine` would free them"
    )


def test_kinds_of_cores_and_caches() -> None:
    topology = two_dies(kib=(98304, 32768))
    host = Host.of(topology)
    needs = [
        Need(name="a", vcpus=6, threads=2, prefer="vcache"),
        Need(name="b", vcpus=4, threads=2, prefer="vcache"),
    ]
    term = told(scene(host, needs, {}), "b")["cache_pref"]
    assert sentence(term) == (
        "0 of 4 vCPUs on the largest cache: 2 such CPUs free, 4 are needed; stopping `a` would free them"
    )
    hybrid = Topology(
        cpus=tuple(
            # The cores of the second die are small.
            type(cpu)(
                **{name: getattr(cpu, name) for name in cpu.__slots__}
                | {"core_class": CoreClass.EFFICIENCY if cpu.l3 else CoreClass.PERFORMANCE}
            )
            for cpu in topology.cpus
        ),
        l3=topology.l3,
        nodes=topology.nodes,
    )
    both = [Need(name="a", vcpus=6, threads=2), Need(name="b", vcpus=4, threads=2, core_class="performance")]
    current = {"a": Assignment(vcpus=(1, 9, 2, 10, 3, 11))}
    both[0] = Need(name="a", vcpus=6, threads=2, movable=False)
    term = told(scene(Host.of(hybrid), both, current), "b")["class"]
    assert sentence(term).endswith(
        "the performance part has 1 free core, 2 are needed; stopping `a` would free them"
    )


@settings(FREELY, max_examples=80)
@given(streams(most_cpus=16, most_vcpus=6))
def test_who_is_named_is_really_in_the_way(case: dict) -> None:
    """Planned without the domain that it would have stopped, the term is better, and none before it is worse."""
    state = State(case)
    claims = 0
    for vms, _ in score.timeline(case):
        needs, current = state.needs(vms), state.current()
        result = state.plan(vms)
        found = Scene(host=state.host, needs=tuple(needs), current=current, assignments=result.assignments)
        for need in needs:
            now = standing(state.host, needs, result.assignments, current, need)
            for term in explain(found, need.name):
                place_of = score.NAMES.index(term.term)
                assert term.value == now[place_of] >= term.best
                assert not term.missed or term.term not in CORE or term.why
                named = re.search(r"stopping `(\w+)`( and starting)?", term.why)
                if named is None:
                    continue
                claims += 1
                rest = [n for n in needs if n.name != named[1]]
                before = {name: at for name, at in current.items() if name != named[1]}
                if named[2]:
                    rest = [n if n.name != need.name else _unplaced(n) for n in rest]
                    before.pop(need.name)
                answer = place(state.host, rest, before).assignments
                me = next(n for n in rest if n.name == need.name)
                then = standing(state.host, rest, answer, before, me)
                assert then[place_of] < now[place_of]
                assert all(a <= b for a, b in zip(then[:place_of], now, strict=False))
        state.adopt(vms, written(result))
    assume(claims)


def _unplaced(need: Need) -> Need:
    return Need(**{name: getattr(need, name) for name in need.__slots__} | {"memory": (), "movable": True})
