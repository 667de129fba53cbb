"""Who should have each device, and why not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.daemon.decide.cards import (
    AUDIO,
    BRIDGE,
    GPU,
    NIC,
    USB,
    WIN11,
    WORK,
    card,
    claim,
    domain,
    observed,
)

from hostlerd.decide.ownership import decide_ownership, owners
from hostlerd.model.domains import Running
from hostlerd.model.ledger import DeviceRecord, Ledger, Trouble
from hostlerd.model.settings import DevicePolicy, Match, Settings

NO_POLICY = Settings()


def idle(when_idle: str, *group: str) -> Settings:
    match = Match(address=GPU)
    return Settings(devices=(DevicePolicy(name="gaming", match=match, when_idle=when_idle, group=group),))  # type: ignore[arg-type]


def test_a_claim_gets_the_device_and_its_companions():
    own = decide_ownership(observed(None, claim(domain(WIN11, GPU))), NO_POLICY)
    assert set(own.wants) == {GPU, AUDIO, USB}
    assert all(w.place == "vfio" and w.claim == WIN11 for w in own.wants.values())
    assert not own.refusals


def test_nothing_is_wanted_without_claims_and_policy():
    assert not decide_ownership(observed(), NO_POLICY).wants


def foreign() -> dict:
    functions = card()
    functions[NIC] = replace(functions[NIC], group=1)
    return functions


def test_a_foreign_member_refuses_the_start_and_is_named():
    own = decide_ownership(observed(foreign(), claim(domain(WIN11, GPU))), NO_POLICY)
    assert not own.wants
    [refusal] = own.refusals
    assert refusal.object == NIC
    assert refusal.claim == WIN11
    assert "e1000e" in refusal.reason
    assert "IOMMU group 1" in refusal.reason
    assert f'group = ["{NIC}"]' in refusal.remedy


def test_policy_lets_a_member_be_taken_along():
    own = decide_ownership(observed(foreign(), claim(domain(WIN11, GPU))), idle("host", NIC))
    assert set(own.wants) == {GPU, AUDIO, USB, NIC}


@pytest.mark.parametrize(
    ("address", "words"),
    [("0000:99:00.0", "no such PCI function"), (BRIDGE, "is a bridge")],
)
def test_impossible_devices_are_refused(address: str, words: str):
    own = decide_ownership(observed(None, claim(domain(WIN11, address))), NO_POLICY)
    assert not own.wants
    assert words in own.refusals[0].reason


def test_no_iommu_is_a_refusal_that_says_what_to_do():
    functions = {a: replace(f, group=None) for a, f in card().items()}
    [refusal] = decide_ownership(observed(functions, claim(domain(WIN11, GPU))), NO_POLICY).refusals
    assert "no IOMMU group" in refusal.reason
    assert "intel_iommu=on" in refusal.remedy


def test_a_second_claimant_gets_the_first_ones_name():
    running = Running(live=domain(WIN11, GPU), definition=None)
    state = observed(None, claim(domain(WORK, GPU)), running=(running,))
    [refusal] = decide_ownership(state, NO_POLICY).refusals
    assert refusal.claimed_by == "win11"
    assert refusal.claim == WORK


def test_a_companion_of_another_domain_is_not_taken_but_its_group_refuses():
    running = Running(live=domain(WORK, AUDIO), definition=None)
    functions = card()
    functions[AUDIO] = replace(functions[AUDIO], group=9)
    own = decide_ownership(observed(functions, claim(domain(WIN11, GPU)), running=(running,)), NO_POLICY)
    assert set(own.wants) == {GPU, USB}
    shared = decide_ownership(observed(None, claim(domain(WIN11, GPU)), running=(running,)), NO_POLICY)
    assert shared.refusals[0].claimed_by == "work"


def test_a_degraded_device_refuses():
    trouble = Trouble(object=AUDIO, reason="hangs", remedy="reboot", since=0.0)
    state = observed(None, claim(domain(WIN11, GPU)), ledger=Ledger(troubles={AUDIO: trouble}))
    [refusal] = decide_ownership(state, NO_POLICY).refusals
    assert refusal.remedy == "reboot"


def test_a_prepared_claim_is_never_judged_anew():
    """Even with the device gone from policy's favour: a guest may be running on it."""
    record = DeviceRecord(address=GPU, driver="amdgpu", override=None)
    state = observed(
        foreign(), claim(domain(WIN11, GPU), prepared=True), ledger=Ledger(devices={GPU: record})
    )
    own = decide_ownership(state, NO_POLICY)
    assert not own.refusals
    assert own.holder[GPU].name == "win11"
    assert GPU in own.wants


def test_a_device_detached_from_a_running_domain_is_no_longer_wanted():
    record = DeviceRecord(address=GPU, driver="amdgpu", override=None)
    running = Running(live=domain(WIN11), definition=None)
    state = observed(
        None,
        claim(domain(WIN11, GPU), prepared=True),
        running=(running,),
        ledger=Ledger(devices={GPU: record}),
    )
    assert not decide_ownership(state, NO_POLICY).wants


def test_an_attached_device_belongs_to_its_domain():
    functions = card()
    functions[GPU] = replace(functions[GPU], driver="vfio-pci", on_vfio=True)
    state = observed(functions, running=(Running(live=domain(WIN11, GPU), definition=None),))
    own = decide_ownership(state, NO_POLICY)
    assert not own.wants
    assert owners(state, own)[GPU].who == "win11"


def test_idle_policy_wants_the_card_and_its_companions_on_vfio():
    own = decide_ownership(observed(), idle("vfio"))
    assert set(own.wants) == {GPU, AUDIO, USB}
    assert all(w.claim is None for w in own.wants.values())


def test_idle_policy_yields_to_a_domain():
    own = decide_ownership(observed(None, claim(domain(WIN11, GPU))), idle("vfio"))
    assert own.wants[GPU].claim == WIN11


def test_owners_name_the_state_of_each_device():
    functions = card()
    functions[USB] = replace(functions[USB], driver="vfio-pci", on_vfio=True)
    trouble = Trouble(object=NIC, reason="hangs", remedy="reboot", since=0.0)
    state = observed(functions, ledger=Ledger(troubles={NIC: trouble}))
    found = owners(state, decide_ownership(state, NO_POLICY))
    assert (found[GPU].kind, found[GPU].who) == ("host", "amdgpu")
    assert found[USB].kind == "idle"
    assert found[NIC].kind == "degraded"


def test_who_is_only_about_to_start_does_not_run_yet():
    """libvirt lists a domain as active while its hook runs, and perhaps before the one that has the card."""
    mine, other = domain(WIN11, GPU), domain(WORK, GPU)
    running = (Running(live=other, definition=other), Running(live=mine, definition=mine))
    own = decide_ownership(
        observed(None, claim(mine, prepared=True), replace(claim(other), since=2), running=running), NO_POLICY
    )
    assert own.holder[GPU].name == "win11"
    [refusal] = own.refusals
    assert refusal.claim == WORK
    assert refusal.claimed_by == "win11"
