"""Whose memory the boot framebuffer sits on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.hosts import SCREEN
from hostlerd.host.simulated.screen import ScreenSpec
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.devices import Function
from hostlerd.observe.grip import grip
from hostlerd.observe.nodes import nodes
from hostlerd.observe.pci import observe_functions
from hostlerd.observe.screen import boot_framebuffer, platform_driver

CARD, OTHER = "0000:02:00.0", "0000:01:00.0"
KINDS = [
    ScreenSpec(card=CARD),
    ScreenSpec(card=CARD, device="vesa-framebuffer.0", driver="vesa-framebuffer", region="vesafb"),
    ScreenSpec(card=CARD, device="simple-framebuffer.0", driver="simple-framebuffer", region="BOOTFB"),
    ScreenSpec(card=CARD, device="some-day.7", driver="whatever", region="yet another"),
]


def host(spec: ScreenSpec = KINDS[0], release: str = "6.1.0-sim") -> SimulatedHost:
    return SimulatedHost(replace(SCREEN, screen=spec, release=release))


def function(found: SimulatedHost, address: str = CARD) -> Function:
    return observe_functions(found.files)[address]


@pytest.mark.parametrize("release", ["6.1.0-sim", "6.12.0-sim"])
@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.driver)
def test_it_is_found_by_where_it_sits_whatever_it_is_called(spec: ScreenSpec, release: str) -> None:
    found = host(spec, release)
    boot = boot_framebuffer(found.files, function(found))
    assert boot is not None
    assert (boot.device, boot.driver, boot.framebuffers) == (spec.device, spec.driver, ("fb0",))
    assert boot.memory
    assert boot_framebuffer(found.files, function(found, OTHER)) is None


def test_without_root_the_addresses_are_zero_and_the_names_are_there() -> None:
    found = host()
    lines = found.files.read("/proc/iomem").splitlines()
    hidden = "".join(
        f"{line[: len(line) - len(line.lstrip())]}00000000-00000000 : {line.partition(' : ')[2]}\n"
        for line in lines
    )
    found.kernel.tree.put("/proc/iomem", hidden)
    assert boot_framebuffer(found.files, function(found)) is not None


def test_the_region_of_its_own_driver_is_no_framebuffer() -> None:
    found = host()
    text = found.files.read("/proc/iomem").replace("efifb", "bochs-drm")
    found.kernel.tree.put("/proc/iomem", text)
    assert boot_framebuffer(found.files, replace(function(found), driver="bochs-drm")) is None


def test_the_console_and_the_nodes_are_the_cards() -> None:
    found = host()
    card = function(found)
    held = grip(found.files, card)
    assert (held.framebuffers, held.consoles) == (("fb0",), ("vtcon1",))
    assert "the boot framebuffer has its screen (efi-framebuffer, efi-framebuffer.0)" in held.words
    assert "/dev/fb0" in {node.path for node in nodes(found.files, card)}


def test_when_it_has_let_go_there_is_none() -> None:
    found = host()
    assert platform_driver(found.files, "efi-framebuffer.0") == "efi-framebuffer"
    found.kernel.write("/sys/bus/platform/drivers/efi-framebuffer/unbind", "efi-framebuffer.0")
    assert boot_framebuffer(found.files, function(found)) is None
    assert platform_driver(found.files, "efi-framebuffer.0") == ""
    assert platform_driver(found.files, "none") is None


def test_a_host_without_platform_devices() -> None:
    card = Function(address=CARD, vendor=1, device=1, class_code=0x030000)
    assert boot_framebuffer(Tree(), card) is None
