"""An address alone is not a card: what was there when policy was first applied, and what is there now."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.daemon.decide.cards import GPU, WIN11, card, claim, domain, observed

from hostlerd.decide.identity import learned, stranger
from hostlerd.decide.ownership import decide_ownership
from hostlerd.model.identity import Known, identity
from hostlerd.model.settings import DevicePolicy, Match, Settings

BY_ADDRESS = Settings(devices=(DevicePolicy(name="gaming", match=Match(address=GPU), when_idle="vfio"),))
BY_IDS = Settings(devices=(DevicePolicy(name="gaming", match=Match(address=GPU, vendor=0x1002)),))
OTHER = {GPU: Known(identity="10de:2684:030000")}


def test_what_is_there_first_is_learned_once():
    state = observed()
    assert learned(state, BY_ADDRESS) == {GPU: Known(identity="1002:744c:030000")}
    assert not learned(replace(state, known=learned(state, BY_ADDRESS)), BY_ADDRESS)


def test_another_card_there_is_refused_and_not_learned():
    state = observed(None, claim(domain(WIN11, GPU)), known=OTHER)
    assert stranger(state, BY_ADDRESS, card()[GPU])
    assert not learned(state, BY_ADDRESS)
    own = decide_ownership(state, BY_ADDRESS)
    assert not own.wants
    assert {r.claim for r in own.refusals} == {WIN11, None}
    assert "that was 10de:2684, this is 1002:744c" in own.refusals[0].reason
    assert f"hostler retry {GPU}" in own.refusals[0].remedy


def test_a_match_that_names_more_than_an_address_needs_no_memory():
    state = observed(known=OTHER)
    assert stranger(state, BY_IDS, card()[GPU]) is None
    assert learned(state, BY_IDS)[GPU].identity == identity(card()[GPU])


def test_a_serial_is_kept_while_no_driver_tells_it():
    functions = card()
    functions[GPU] = replace(functions[GPU], serial="S1")
    known = learned(observed(functions), BY_ADDRESS)
    assert known[GPU].serial == "S1"
    assert not learned(observed(known=known), BY_ADDRESS)


def test_devices_without_policy_are_nobodys_business():
    assert not learned(observed(), Settings())
