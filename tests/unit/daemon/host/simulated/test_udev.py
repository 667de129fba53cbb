"""The rules of /run/udev/rules.d, and the race they mostly lose."""

from __future__ import annotations

import pytest

from hostlerd.host.simulated.host import SimulatedHost

CARD, AUDIO = "0000:04:00.0", "0000:04:00.1"
RULE = "/run/udev/rules.d/70-hostler.rules"


def rule(*tests: str) -> str:
    return ", ".join(['ACTION=="add"', 'SUBSYSTEM=="pci"', *tests, 'ATTR{driver_override}="vfio-pci"']) + "\n"


async def plugged(text: str, *, early: bool = False, loaded: bool = False) -> SimulatedHost:
    host = SimulatedHost("desktop")
    await host.writer.replace_file(RULE, "# a comment\n" + text)
    if early:
        host.kernel.faults.cause("early-udev")
    if loaded:
        host.kernel.modprobe(["nvidia"])
    host.kernel.plug(list(host.spec.cards["second"]))
    return host


@pytest.mark.parametrize(
    "text",
    [
        rule('KERNEL=="0000:04:00.0"'),
        rule('ATTR{vendor}=="0x10de"', 'ATTR{device}=="0x2204"'),
        rule('KERNEL=="0000:0[49]:00.0"', 'ATTR{class}!="0x040300"'),
    ],
)
async def test_a_rule_beats_a_driver_that_is_not_loaded(text: str) -> None:
    host = await plugged(text)
    assert host.kernel.pci.devices[CARD].driver is None
    assert host.kernel.pci.override(CARD) == "vfio-pci"
    assert (host.kernel.pci.devices[AUDIO].driver, host.kernel.pci.override(AUDIO)) == ("snd_hda_intel", None)


async def test_a_loaded_driver_is_faster_than_udev() -> None:
    host = await plugged(rule('KERNEL=="0000:04:00.*"'), loaded=True)
    assert host.kernel.pci.devices[CARD].driver == "nvidia"
    assert host.kernel.pci.override(CARD) == "vfio-pci"


async def test_unless_the_race_is_turned_round() -> None:
    host = await plugged(rule('KERNEL=="0000:04:00.*"'), loaded=True, early=True)
    assert host.kernel.pci.devices[CARD].driver is None
    assert host.kernel.pci.devices[AUDIO].driver is None


async def test_a_rule_for_another_card_does_nothing() -> None:
    host = await plugged(rule('KERNEL=="0000:09:00.0"') + rule('ENV{NEVER}=="known"'))
    assert host.kernel.pci.override(CARD) is None


async def test_a_rule_that_is_removed_is_gone() -> None:
    host = SimulatedHost("desktop")
    await host.writer.replace_file(RULE, rule('KERNEL=="0000:04:00.0"'))
    await host.writer.replace_file(RULE, None)
    host.kernel.plug(list(host.spec.cards["second"]))
    assert host.kernel.pci.override(CARD) is None
