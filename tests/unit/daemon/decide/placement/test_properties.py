"""What must hold for every host and every stream of domains."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.placement import score
from tests.unit.daemon.decide.placement.tiny import State, hosts, streams, written

from hostlerd.decide.placement import Host, place

CORE = 8
FREELY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@settings(FREELY, max_examples=150)
@given(streams())
def test_answers_are_valid_and_judged_as_the_scorer_does(case: dict) -> None:
    state = State(case)
    for vms, _ in score.timeline(case):
        result = state.plan(vms)
        vector, errors = state.judged(vms, written(result))
        assert vector is not None, errors
        assert list(result.terms) == vector
        state.adopt(vms, written(result))


@settings(FREELY, max_examples=60)
@given(streams(most_cpus=24, most_vcpus=8))
def test_the_same_question_has_the_same_answer(case: dict) -> None:
    state = State(case)
    for vms, _ in score.timeline(case):
        result = state.plan(vms)
        assert state.plan(dict(reversed(vms.items()))) == result
        state.adopt(vms, written(result))


@settings(FREELY, max_examples=100)
@given(streams(most_cpus=24, most_vcpus=8))
def test_nothing_moves_when_asked_again(case: dict) -> None:
    state = State(case)
    for vms, _ in score.timeline(case):
        result = state.plan(vms)
        state.adopt(vms, written(result))
        again = state.plan(vms)
        assert again.assignments == result.assignments


@settings(FREELY, max_examples=60)
@given(streams(most_cpus=24, most_vcpus=8))
def test_who_leaves_never_worsens_those_who_stay(case: dict) -> None:
    """As the objective counts them: together. One may move aside for what another gains by more."""
    state = State(case)
    for vms, _ in score.timeline(case):
        result = state.plan(vms)
        state.adopt(vms, written(result))
        for gone in vms:
            rest = {name: vm for name, vm in vms.items() if name != gone}
            stayed = {name: held for name, held in written(result).items() if name != gone}
            before, _ = state.judged(rest, stayed)
            after, errors = state.judged(rest, written(state.plan(rest)))
            assert after is not None, errors
            assert before is None or after <= before


@settings(FREELY, max_examples=40)
@given(streams(most_cpus=6, most_vcpus=3, events=4))
def test_tiny_hosts_get_the_best_there_is(case: dict) -> None:
    state = State(case)
    for vms, _ in score.timeline(case):
        result = state.plan(vms)
        vector, errors = state.judged(vms, written(result))
        assert vector is not None, errors
        assert vector[: CORE + 1] == state.best(vms)[: CORE + 1]
        state.adopt(vms, written(result))


@settings(FREELY, max_examples=60)
@given(streams(), st.data())
def test_nobody_is_placed_on_taken_cpus_and_the_immovable_stay(case: dict, data: st.DataObject) -> None:
    state = State(case)
    taken = frozenset(data.draw(st.sets(st.sampled_from(state.judge.ids), max_size=3)))
    state.host = Host.of(
        state.host.topology,
        must=state.host.must,
        min_cpus=state.host.min_cpus,
        taken=taken,
        gpu_nodes=state.host.gpu_nodes,
    )
    for vms, _ in score.timeline(case):
        for vm in vms.values():
            vm["rebalance"] = False
        before = state.current()
        result = state.plan(vms)
        owned = [cpu for held in result.assignments.values() if held for cpu in held.cpus]
        assert len(owned) == len(set(owned))
        assert not taken.intersection(owned)
        assert not state.host.must.intersection(owned)
        free = len(state.host.topology.online - taken) - len(owned)
        assert free >= state.host.min_cpus or not owned
        for name, held in before.items():
            if held and name in vms and len(held.vcpus) == vms[name]["vcpus"]:
                assert result.assignments[name] == held
        state.adopt(vms, written(result))


@settings(FREELY, max_examples=60)
@given(streams(most_cpus=16), st.data())
def test_the_host_keeps_ordinary_cpus_of_a_kernel_booted_with_isolcpus(
    case: dict, data: st.DataObject
) -> None:
    """Answers stay valid, and as many ordinary CPUs are left as the host needs, where there are so many."""
    cpus = case["host"]["cpus"]
    cores = data.draw(st.sets(st.sampled_from([cpu["core"] for cpu in cpus])))
    isolated = frozenset(cpu["id"] for cpu in cpus if cpu["core"] in cores)
    state = State(case)
    topology = replace(state.host.topology, isolated=isolated)
    least = case["host"]["reserve"]["min_cpus"]
    state.host = replace(state.host, topology=topology)
    for vms, _ in score.timeline(case):
        result = state.plan(vms)
        vector, errors = state.judged(vms, written(result))
        assert vector is not None, errors
        owned = {cpu for held in result.assignments.values() if held for cpu in held.cpus}
        ordinary = topology.online - isolated
        assert len(ordinary - owned) >= least or len(ordinary) < least or not owned & ordinary
        state.adopt(vms, written(result))


@settings(FREELY, max_examples=60)
@given(hosts(), st.integers(1, 4))
def test_a_small_budget_still_gives_an_answer(host: dict, count: int) -> None:
    vms = {f"d{i}": {"name": f"d{i}", "vcpus": 2, "threads": 2} for i in range(count)}
    state = State({"host": host})
    result = place(state.host, state.needs(vms), {}, budget=1)
    vector, errors = state.judged(vms, written(result))
    assert vector is not None, errors
