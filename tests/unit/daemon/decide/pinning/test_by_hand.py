"""Who pins by hand while a domain runs wins until it stops."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
from tests.unit.daemon.decide.cards import GPU, NIC, WIN11, WORK, claim, domain, observed
from tests.unit.daemon.decide.pinning.virt import (
    by_hand,
    live,
    on,
    performed,
    pins,
    run,
    settled,
    with_running,
)

from hostlerd.decide import decide
from hostlerd.model.domains import Running
from hostlerd.model.edits import PINS, Edit, PinsChange
from hostlerd.model.observed import Observed
from hostlerd.model.settings import DomainPolicy, Settings

DEFAULTS = Settings()


def state(*more: Running) -> Observed:
    threads = replace(domain(WIN11, GPU, vcpus=2), iothreads=1, iothread_ids=(1,))
    return settled(observed(running=(run(threads), *more)), DEFAULTS)


def in_the_way(found: Observed) -> Observed:
    """Another domain whose definition names the CPUs that win11 is on."""
    other = replace(domain(WORK, vcpus=2), vcpu_pins=dict(live(found, "win11").vcpu_pins))
    return with_running(found, *found.snapshot.running, run(other))


@pytest.mark.parametrize(("thread", "index"), [("vcpu", 0), ("vcpu", 1), ("emulator", 0), ("iothread", 1)])
def test_it_is_never_overwritten_and_nobody_else_is_dedicated_there(thread: str, index: int) -> None:
    found = by_hand(state(), "win11", thread, index, {7})
    plan = decide(found, DEFAULTS)
    name = f"win11/{thread}" + ("" if thread == "emulator" else str(index))
    assert name not in pins(plan)
    [note] = plan.notes[WIN11]
    assert "by hand" in note
    assert note.endswith("to 7")
    found = settled(found, DEFAULTS)
    found = settled(with_running(found, *found.snapshot.running, run(domain(WORK, NIC, vcpus=2))), DEFAULTS)
    assert frozenset({7}) not in on(found, "work").values()
    assert decide(found, DEFAULTS).notes[WIN11] == (note,)
    assert name not in pins(decide(found, DEFAULTS))


def test_another_domain_makes_way() -> None:
    found = state(run(domain(WORK, NIC, vcpus=2)))
    [theirs, *_] = on(found, "work").values()
    found = settled(by_hand(found, "win11", "vcpu", 0, set(theirs)), DEFAULTS)
    assert on(found, "win11")[0] == theirs
    assert theirs not in on(found, "work").values()


def test_our_own_vcpu_makes_way() -> None:
    found = state()
    theirs = on(found, "win11")[1]
    found = settled(by_hand(found, "win11", "vcpu", 0, set(theirs)), DEFAULTS)
    assert on(found, "win11")[0] == theirs
    assert on(found, "win11")[1] != theirs


def test_back_to_where_we_had_it_is_by_hand_too() -> None:
    found = state()
    ours = on(found, "win11")[0]
    found = settled(by_hand(found, "win11", "vcpu", 0, {7}), DEFAULTS)
    found = by_hand(found, "win11", "vcpu", 0, set(ours))
    assert decide(found, DEFAULTS).notes[WIN11]


def test_a_pin_that_is_being_set_is_ours_whichever_is_in_force() -> None:
    """The journal names both; then the daemon is killed, and libvirt may have done it or not."""
    found = state()
    before, found = on(found, "win11"), in_the_way(found)
    plan = decide(found, DEFAULTS)
    assert pins(plan)
    after = performed(found, plan)
    assert on(after, "win11") != before
    assert any(" " in entry for entry in after.ledger.pins[WIN11].vcpus.values())
    for killed in (replace(found, ledger=after.ledger), after):
        assert WIN11 not in decide(killed, DEFAULTS).notes


def test_once_it_is_in_force_the_pin_before_is_the_users_to_choose() -> None:
    found = state()
    before = on(found, "win11")[0]
    found = settled(in_the_way(found), DEFAULTS)
    assert on(found, "win11")[0] != before
    assert all(" " not in entry for entry in found.ledger.pins[WIN11].vcpus.values())
    assert decide(by_hand(found, "win11", "vcpu", 0, set(before)), DEFAULTS).notes[WIN11]


def test_a_pin_to_all_cpus_takes_none() -> None:
    found = by_hand(state(), "win11", "vcpu", 0, set(range(8)))
    plan = decide(found, DEFAULTS)
    assert "win11/vcpu0" not in pins(plan)
    assert plan.notes[WIN11]
    assert not plan.refusals
    assert on(found, "win11")[1] <= plan.dedicated
    assert len(plan.dedicated) <= 2


def test_a_shared_domain_can_be_pinned_by_hand_before_anything_is_dedicated() -> None:
    found = by_hand(observed(running=(run(domain(WORK, vcpus=2)),)), "work", "vcpu", 1, {5})
    assert not pins(decide(found, DEFAULTS))
    found = settled(with_running(found, *found.snapshot.running, run(domain(WIN11, GPU))), DEFAULTS)
    assert on(found, "work")[1] == {5}
    assert frozenset({5}) not in on(found, "win11").values()


def test_the_definitions_own_pin_is_not_by_hand() -> None:
    mine = replace(domain(WIN11, GPU, vcpus=2), vcpu_pins={0: frozenset({3})}, emulator_pins=frozenset({1}))
    assert not decide(observed(running=(run(mine),)), DEFAULTS).notes
    everywhere = replace(domain(WIN11, GPU, vcpus=2), cpuset=frozenset({2, 3}))
    shown = replace(everywhere, vcpu_pins={0: frozenset({2, 3})}, emulator_pins=frozenset({2, 3}))
    assert not decide(observed(running=(run(everywhere, shown),)), DEFAULTS).notes


def test_a_transient_domains_pins_are_known_from_its_start() -> None:
    mine = replace(domain(WIN11, GPU, vcpus=2), vcpu_pins={0: frozenset({3})})
    found = observed(None, claim(mine, prepared=True), running=(Running(live=mine, definition=None),))
    found = settled(found, DEFAULTS)
    assert WIN11 not in decide(found, DEFAULTS).notes
    found = by_hand(found, "win11", "vcpu", 0, {2})
    assert decide(found, DEFAULTS).notes[WIN11]
    assert "win11/vcpu0" not in pins(decide(found, DEFAULTS))


def test_hands_off_leaves_it_too() -> None:
    off = Settings(overrides={"win11": DomainPolicy(cpus="off")})
    found = by_hand(state(), "win11", "vcpu", 0, {7})
    plan = decide(found, off)
    assert "win11/vcpu0" not in pins(plan)
    assert pins(plan)["win11/vcpu1"] == "0-7"


def test_it_ends_with_the_domain() -> None:
    found = by_hand(state(), "win11", "vcpu", 0, {7})
    stopped = with_running(found)
    assert WIN11 in decide(stopped, DEFAULTS).settled
    again = replace(stopped, ledger=replace(stopped.ledger, pins={}))
    again = with_running(again, run(domain(WIN11, GPU, vcpus=2)))
    plan = decide(again, DEFAULTS)
    assert {f"win11/vcpu{i}" for i in range(2)} <= pins(plan).keys()
    assert not plan.notes


def test_more_by_hand_than_the_host_can_spare_is_said() -> None:
    found = state()
    for vcpu, cpus in ((0, {0, 1, 2, 3}), (1, {4, 5, 6})):
        found = by_hand(found, "win11", "vcpu", vcpu, cpus)
    plan = decide(found, DEFAULTS)
    assert any("by hand" in refusal.reason for refusal in plan.refusals)
    assert len(plan.housekeeping) >= 2
    assert not {"win11/vcpu0", "win11/vcpu1"} & pins(plan).keys()


def written(uuid: str, vcpus: dict[int, str], by: Literal["user", "policy"] = "policy") -> Edit:
    """An edit of a definition that says where a domain begins."""
    pins = PinsChange(vcpus=tuple(vcpus.items()))
    return Edit(uuid=uuid, name="x", kind=PINS, by=by, before="", after="", changes=(), done=True, pins=pins)


def test_a_hand_may_choose_what_the_domain_began_with() -> None:
    """Written 0 and 4, moved to others since; then a user wants 0: that is no pin of ours any more."""
    begins = {0: frozenset({0}), 1: frozenset({4})}
    mine = replace(domain(WIN11, GPU, vcpus=2), vcpu_pins=begins)
    other = replace(domain(WORK, vcpus=2), vcpu_pins=begins)
    state = replace(
        observed(running=(run(mine), run(other))), edits={WIN11: (written(WIN11, {0: "0", 1: "4"}),)}
    )
    state = settled(state, Settings())
    assert on(state, "win11")[0] != frozenset({0})
    state = with_running(state, *(r for r in state.snapshot.running if r.name == "win11"))
    state = by_hand(settled(state, Settings()), "win11", "vcpu", 0, {0})
    for _ in range(3):
        state = settled(state, Settings())
        assert on(state, "win11")[0] == frozenset({0})
        assert "by hand" in decide(state, Settings()).notes[WIN11][0]


def test_a_pin_for_the_next_start_is_not_taken_for_one_by_hand() -> None:
    """`virsh vcpupin --config` of a domain that runs: where it is now we put it, also after that is taken back."""
    state = settled(observed(running=(run(domain(WIN11, GPU, vcpus=2)),)), Settings())
    [running] = state.snapshot.running
    pinned = replace(domain(WIN11, GPU, vcpus=2), vcpu_pins={0: frozenset({7})})
    state = settled(with_running(state, replace(running, definition=pinned)), Settings())
    assert not decide(state, Settings()).notes
    [running] = state.snapshot.running
    state = with_running(state, replace(running, definition=domain(WIN11, GPU, vcpus=2)))
    assert not decide(state, Settings()).notes


def test_what_was_written_is_let_go_where_policy_keeps_its_hands_off() -> None:
    begins = {0: frozenset({2}), 1: frozenset({6})}
    mine = replace(domain(WIN11, vcpus=2), vcpu_pins=begins)
    off = Settings(overrides={"win11": DomainPolicy(cpus="off")})
    state = observed(running=(run(mine), run(domain(WORK, NIC, vcpus=4))))
    state = settled(replace(state, edits={WIN11: (written(WIN11, {0: "2", 1: "6"}, by="user"),)}), off)
    assert on(state, "win11") == dict.fromkeys((0, 1), state.topology.online)


def test_a_guest_that_was_saved_comes_back_with_our_pins_of_that_time() -> None:
    """Nobody made them by hand: a shared domain floats on, and a dedicated one is placed where there is room now."""
    plain = domain(WORK, vcpus=2)
    before = settled(observed(running=(run(plain), run(domain(WIN11, GPU, vcpus=4)))), Settings())
    saved = live(before, "work")
    assert saved.vcpu_pins
    back = replace(claim(saved), prepared=True, saved=True)
    state = observed(None, back, running=(run(plain, live=saved),))
    plan = decide(state, Settings())
    assert not plan.notes
    state = settled(
        with_running(state, *state.snapshot.running, run(domain(WIN11, GPU, vcpus=4))), Settings()
    )
    assert not decide(state, Settings()).refusals
    assert len(on(state, "win11")) == 4
