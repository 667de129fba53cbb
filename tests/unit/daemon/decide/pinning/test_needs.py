"""Wishes reach the planner, and what it assigns for them reaches pins, record and the CPUs that are dedicated."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.daemon.decide.cards import GPU, NIC, WIN11, WORK, domain, observed
from tests.unit.daemon.decide.pinning.virt import by_hand, live, on, pins, run, settled, with_running

from hostlerd.decide import decide
from hostlerd.decide.pinning import tenants
from hostlerd.decide.pinning.needs import need_of
from hostlerd.decide.pinning.running import assignment_of
from hostlerd.decide.placement import Need
from hostlerd.model.domains import Definition
from hostlerd.model.settings import DomainPolicy, Settings

ONE = Settings(domains=DomainPolicy(emulator=1))


def need(definition: Definition, settings: Settings) -> Need:
    state = observed(running=(run(definition),))
    [tenant] = tenants(state, settings)
    return need_of(tenant, state, assignment_of(tenant, state))


def test_every_wish_is_in_the_need() -> None:
    policy = DomainPolicy(
        core_class="performance", smt="isolate", priority=3, emulator=2, prefer="vcache", rebalance=False
    )
    found = need(domain(WIN11, GPU), Settings(domains=policy))
    assert (found.core_class, found.smt, found.priority, found.emulator, found.prefer, found.movable) == (
        "performance",
        "isolate",
        3,
        2,
        "vcache",
        False,
    )
    assert need(domain(WIN11, GPU), Settings()).core_class is None


def test_a_domains_own_wishes_are_too() -> None:
    wishes = {"smt": "isolate", "priority": 5, "cpus": "dedicated", "rebalance": False}
    mine = replace(domain(WORK, vcpus=2), wishes=wishes)
    found = need(mine, Settings())
    assert (found.smt, found.priority, found.movable) == ("isolate", 5, False)
    assert decide(observed(running=(run(mine),)), Settings()).dedicated
    off = Settings(overrides={"work": DomainPolicy(cpus="off")}, stated={"work": frozenset({"cpus"})})
    assert not decide(observed(running=(run(mine),)), off).dedicated


def test_isolated_vcpus_keep_their_siblings_empty() -> None:
    state = observed(running=(run(replace(domain(WIN11, GPU, vcpus=2), topology=None)),))
    plan = decide(state, Settings(domains=DomainPolicy(smt="isolate")))
    [place] = plan.placements
    assert len(place.idle) == 2
    assert plan.dedicated == place.taken


def test_the_emulators_own_cpu_is_dedicated_pinned_and_read_back() -> None:
    threads = replace(domain(WIN11, GPU, vcpus=2), iothreads=1, iothread_ids=(1,))
    state = settled(observed(running=(run(threads),)), ONE)
    [place] = decide(state, ONE).placements
    assert len(place.emulator) == 1
    assert place.emulator <= decide(state, ONE).dedicated
    assert live(state, "win11").emulator_pins == place.emulator
    assert live(state, "win11").iothread_pins == {1: place.emulator}
    [tenant] = tenants(state, ONE)
    current = assignment_of(tenant, state)
    assert current is not None
    assert frozenset(current.emulator) == place.emulator
    state = settled(with_running(state, *state.snapshot.running, run(domain(WORK, NIC, vcpus=2))), ONE)
    [mine, theirs] = decide(state, ONE).placements
    assert len(mine.emulator) == 1
    assert not theirs.taken & mine.taken
    assert live(state, "win11").emulator_pins == mine.emulator


def test_an_emulator_that_is_pinned_wants_no_cpu_of_its_own() -> None:
    pinned = replace(domain(WIN11, GPU, vcpus=2), emulator_pins=frozenset({1}))
    assert need(pinned, ONE).emulator == 0
    assert need(replace(pinned, iothreads=1, iothread_ids=(1,)), ONE).emulator == 1
    state = settled(observed(running=(run(domain(WIN11, GPU, vcpus=2)),)), ONE)
    state = settled(by_hand(state, "win11", "emulator", 0, {7}), ONE)
    assert live(state, "win11").emulator_pins == {7}
    assert len(decide(state, ONE).dedicated) == 2


def test_the_emulator_goes_back_to_the_hosts_cpus_when_it_is_not_wished_any_more() -> None:
    state = settled(observed(running=(run(domain(WIN11, GPU, vcpus=2)),)), ONE)
    state = settled(state, Settings())
    plan = decide(state, Settings())
    assert live(state, "win11").emulator_pins == plan.housekeeping
    assert state.ledger.pins[WIN11].own == ""


def test_memory_is_where_its_cpus_are() -> None:
    state = settled(observed(running=(run(domain(WIN11, GPU, vcpus=2)),)), Settings())
    [tenant] = tenants(state, Settings())
    assert need_of(tenant, state, assignment_of(tenant, state)).memory == (frozenset({0}),)
    assert need(domain(WIN11, GPU), Settings()).memory == ()


@pytest.mark.parametrize("ids", [(0, 2), (1, 3)])
def test_vcpus_out_of_turn_are_pinned_by_their_ids(ids: tuple[int, ...]) -> None:
    mine = replace(domain(WIN11, GPU, vcpus=2), max_vcpus=4, vcpu_ids=ids)
    state = settled(observed(running=(run(mine),)), Settings())
    assert on(state, "win11").keys() == set(ids)
    assert not pins(decide(state, Settings()))
