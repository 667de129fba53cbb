"""Why the host must not sleep."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.daemon.decide.cards import AUDIO, GPU, NIC, USB, WIN11, WORK, card, claim, domain, observed

from hostlerd.decide import decide
from hostlerd.model.domains import Hostdev, Running
from hostlerd.model.ledger import DeviceRecord, Ledger
from hostlerd.model.settings import Settings

ALLOW = Settings(suspend="allow")
SLICE = "33333333-3333-3333-3333-333333333333"


def test_nothing_is_in_the_way_of_an_idle_host():
    assert decide(observed(), Settings()).awake == ""


def test_a_domain_has_its_card_from_its_claim_on():
    asked = claim(domain(WIN11, GPU))
    assert decide(observed(None, asked), Settings()).awake == f"{asked.name} has {GPU}"
    had = replace(asked, prepared=True)
    functions = {
        address: replace(f, driver="vfio-pci", on_vfio=True, override="vfio-pci") if address != NIC else f
        for address, f in card().items()
    }
    assert decide(observed(functions, had), Settings()).awake == f"{had.name} has {GPU}"
    assert decide(observed(functions, had), ALLOW).awake == ""


def test_a_handoff_is_in_the_way_whatever_policy_says():
    asked = claim(domain(WIN11, GPU))
    assert decide(observed(None, asked), ALLOW).awake == f"{GPU} is being handed over"


@pytest.mark.parametrize("settings", [Settings(), ALLOW])
def test_also_on_the_way_home(settings: Settings):
    functions = card()
    functions[USB] = replace(functions[USB], driver="vfio-pci", on_vfio=True, override="vfio-pci")
    record = DeviceRecord(
        address=USB, driver="xhci_hcd", override=None, identity=f"1002:7446:{functions[USB].class_code:06x}"
    )
    state = observed(functions, ledger=Ledger(devices={USB: record}))
    assert decide(state, settings).awake == f"{USB} is being handed over"


def test_each_domain_and_each_card_is_named_once_and_slices_too():
    win11 = domain(WIN11, GPU, AUDIO)
    other = replace(
        domain(WORK, NIC), hostdevs=(*domain(WORK, NIC).hostdevs, Hostdev(kind="mdev", uuid=SLICE))
    )
    running = tuple(Running(live=live, definition=None) for live in (win11, other))
    state = observed(None, running=running)
    assert (
        decide(state, Settings()).awake
        == f"{win11.name} has {GPU}; {other.name} has {NIC}, the slice {SLICE}"
    )
