"""Where shared domains float, and what they are lent while they starve."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.daemon.decide.cards import GPU, WIN11, WORK, domain, observed
from tests.unit.daemon.decide.pinning.virt import by_hand, live, on, pins, run, settled, whys, with_running

from hostlerd.decide import decide
from hostlerd.model.cpuset import format_cpu_list
from hostlerd.model.isolation import Group
from hostlerd.model.observed import Observed
from hostlerd.model.programs import Program
from hostlerd.model.settings import DomainPolicy, Settings

DEFAULTS = Settings()
SHARED = run(domain(WORK, vcpus=2))


def paused(state: Observed, how: str = "paused") -> Observed:
    return with_running(
        state, *(replace(d, state=how) if d.name == "win11" else d for d in state.snapshot.running)
    )


def test_they_keep_off_cpus_that_were_isolated_at_boot() -> None:
    state = observed(running=(SHARED, run(domain(WIN11, GPU, vcpus=2))))
    state = replace(state, topology=replace(state.topology, isolated=frozenset({2, 3, 6, 7})))
    state = settled(state, DEFAULTS)
    floats = on(state, "work")[0]
    assert floats
    assert not floats & {2, 3, 6, 7}
    assert live(state, "win11").emulator_pins == floats
    alone = settled(with_running(state, *(d for d in state.snapshot.running if d.name == "work")), DEFAULTS)
    assert on(alone, "work")[0] == {0, 1, 4, 5}


def test_the_host_keeps_cpus_that_were_not_isolated_at_boot() -> None:
    """Whatever is placed: there is something to float on."""
    state = observed(running=(SHARED, run(domain(WIN11, GPU, vcpus=6))))
    state = replace(state, topology=replace(state.topology, isolated=frozenset({1, 2, 3, 5, 6, 7})))
    plan = decide(state, DEFAULTS)
    assert plan.housekeeping == {0, 4}
    assert len(plan.dedicated) == 6


def test_they_float_there_where_nothing_else_is_left() -> None:
    state = observed(running=(SHARED, run(domain(WIN11, GPU, vcpus=2))))
    state = replace(state, topology=replace(state.topology, isolated=frozenset(range(8))))
    state = settled(state, DEFAULTS)
    assert on(state, "work")[0] == decide(state, DEFAULTS).housekeeping


@pytest.mark.parametrize("how", ["paused", "pmsuspended"])
def test_starving_they_are_lent_the_cpus_of_a_paused_domain_until_it_goes_on(how: str) -> None:
    state = settled(observed(running=(SHARED, run(domain(WIN11, GPU, vcpus=2)))), DEFAULTS)
    before = on(state, "work")
    starving = replace(paused(state, how), starving=True)
    plan = decide(starving, DEFAULTS)
    lent = frozenset().union(*on(state, "win11").values())
    assert plan.lent == lent
    assert pins(plan) == {f"work/vcpu{i}": format_cpu_list(before[i] | lent) for i in range(2)}
    assert f"win11 is {how}" in whys(plan)["work/vcpu0"]
    assert any("starve" in note for note in plan.notes[WIN11])
    assert plan.dedicated == lent  # still its own
    there = settled(starving, DEFAULTS)
    goes_on = with_running(there, *(replace(d, state="running") for d in there.snapshot.running))
    assert on(settled(goes_on, DEFAULTS), "work") == before
    fed = replace(there, starving=False)
    assert on(settled(fed, DEFAULTS), "work") == before


def test_a_domain_that_does_not_starve_is_lent_nothing() -> None:
    state = settled(observed(running=(SHARED, run(domain(WIN11, GPU, vcpus=2)))), DEFAULTS)
    assert not pins(decide(paused(state), DEFAULTS))
    assert not decide(replace(state, starving=True), DEFAULTS).lent


def test_empty_siblings_are_lent_unless_they_are_wished_empty() -> None:
    odd = run(replace(domain(WIN11, GPU, vcpus=3), topology=None))
    for smt, many in (("pair", False), ("isolate", True)):
        settings = Settings(overrides={"win11": DomainPolicy(smt=smt)})  # type: ignore[arg-type]
        state = settled(observed(running=(SHARED, odd)), settings)
        [place, _] = decide(state, settings).placements
        assert place.idle or not many
        plan = decide(replace(state, starving=True), settings)
        assert plan.lent == (frozenset() if many else place.idle)


def test_a_sibling_that_is_wished_empty_is_not_lent_with_anothers_pins() -> None:
    """win11 is pinned by hand to all CPUs and paused; beside it somebody keeps siblings empty."""
    beside = "11111111-0000-4000-8000-000000000001"
    isolate = replace(domain(beside, vcpus=1, wishes={"cpus": "dedicated", "smt": "isolate"}), topology=None)
    state = settled(observed(running=(SHARED, run(domain(WIN11, GPU, vcpus=2)), run(isolate))), DEFAULTS)
    state = settled(by_hand(state, "win11", "vcpu", 0, set(range(8))), DEFAULTS)
    plan = decide(replace(paused(state), starving=True), DEFAULTS)
    [place] = (p for p in plan.placements if p.uuid == beside)
    assert place.idle
    assert plan.lent
    assert not plan.lent & place.taken


def test_cpus_that_somebody_who_runs_is_pinned_to_are_not_lent() -> None:
    mine = replace(domain(WIN11, GPU, vcpus=2), vcpu_pins={0: frozenset({1}), 1: frozenset({2})})
    beside = "11111111-0000-4000-8000-000000000001"
    other = replace(domain(beside, GPU, vcpus=2), vcpu_pins={0: frozenset({1}), 1: frozenset({3})})
    state = settled(observed(running=(SHARED, run(mine), run(other))), DEFAULTS)
    plan = decide(replace(paused(state), starving=True), DEFAULTS)
    assert plan.lent == {2}


def test_what_a_program_has_is_not_lent() -> None:
    """A domain that is pinned to all CPUs is paused: that says nothing of whose these are."""
    wide = replace(domain(WIN11, GPU, vcpus=2), cpuset=frozenset(range(8)))
    program = Program(id="1", name="p", uid=0, pid=1, start=1, count=1, cpus="7")
    scope = Group(unit=program.scope, allowed=frozenset({7}), effective=frozenset({7}), path="/x")
    state = observed(running=(SHARED, run(wide)))
    groups, ledger = replace(state.groups, programs=(scope,)), replace(state.ledger, programs={"1": program})
    state = paused(settled(replace(state, groups=groups, ledger=ledger), DEFAULTS))
    plan = decide(replace(state, starving=True), DEFAULTS)
    assert plan.dedicated == {7}
    assert not plan.lent
