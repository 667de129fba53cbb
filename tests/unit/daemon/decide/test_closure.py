"""What belongs to a device."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.daemon.decide.cards import AUDIO, BRIDGE, GPU, NIC, USB, card, function

from hostlerd.decide.closure import companions, leaves_group_viable, members


def test_functions_of_the_slot_in_the_group_are_companions():
    assert companions(card(), GPU) == (AUDIO, USB)
    assert companions(card(), AUDIO) == (GPU, USB)


def test_a_display_cards_own_functions_come_along_from_another_group():
    functions = card()
    functions[AUDIO] = replace(functions[AUDIO], group=7)
    functions[USB] = replace(functions[USB], group=8)
    assert companions(functions, GPU) == (AUDIO, USB)


def test_other_functions_of_the_slot_in_another_group_stay():
    functions = card()
    functions[AUDIO] = replace(functions[AUDIO], group=7, class_code=0x010802)
    assert companions(functions, GPU) == (USB,)


def test_an_audio_function_does_not_drag_the_display_from_another_group():
    functions = card()
    functions[AUDIO] = replace(functions[AUDIO], group=7)
    assert companions(functions, AUDIO) == ()


def test_a_pf_is_no_companion_of_its_vf_nor_the_other_way_round():
    pf = function("0000:05:00.0", 0x030000, "i915", group=3)
    vfs = [function(f"0000:05:00.{i}", 0x030000, None, group=3, physfn=pf.address) for i in (1, 2)]
    functions = {f.address: f for f in (pf, *vfs)}
    assert companions(functions, "0000:05:00.1") == ()
    assert companions(functions, pf.address) == ()


def test_members_are_endpoints_of_the_group_and_no_bridges():
    functions = card()
    functions[NIC] = replace(functions[NIC], group=1)
    assert members(functions, [GPU]) == (AUDIO, USB, NIC)
    assert BRIDGE not in members(functions, [GPU, AUDIO, USB])


def test_unbound_and_vfio_members_leave_a_group_viable():
    nic = card()[NIC]
    assert not leaves_group_viable(nic)
    assert leaves_group_viable(replace(nic, driver=None))
    assert leaves_group_viable(replace(nic, driver="vfio-pci", on_vfio=True))
    assert leaves_group_viable(replace(nic, driver="pci-stub"))


def test_an_unknown_address_has_no_companions():
    assert companions(card(), "0000:99:00.0") == ()
