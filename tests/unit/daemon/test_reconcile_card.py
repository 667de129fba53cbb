"""What a card needs beside its driver, on the simulated host: which VFIO driver, its screen, reset, BARs, life."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.daemon.mortal import at_every_line, does, life
from tests.unit.daemon.stable import CARD as GPU_CARD
from tests.unit.daemon.stable import GPU, Stable, simulated, stable

from hostler.errors import HostFailed
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.hosts import LAB, SCREEN
from hostlerd.model.settings import DevicePolicy, Match, Settings
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio

CARD = "0000:01:00.0"


def lab(libvirt: int = 11_003_000) -> SimulatedHost:
    return SimulatedHost(replace(LAB, libvirt=libvirt), parse=parse_domain, limit=60.0)


def drivers(host: SimulatedHost) -> dict[str, str | None]:
    return {address: device["driver"] for address, device in host.show()["devices"].items()}


@pytest.mark.parametrize("managed", [True, False])
@pytest.mark.parametrize(("libvirt", "driver"), [(9_000_000, "vfio-pci"), (11_003_000, "labvfio")])
async def test_a_card_goes_to_its_variant_where_libvirt_knows_them(
    tmp_path: Path, libvirt: int, driver: str, managed: bool, autojump_clock: trio.testing.MockClock
):
    host = lab(libvirt)
    before = host.show()["devices"]
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[CARD], managed=managed))
        await host.hypervisor.start("win11")
        await one.settle()
        assert drivers(host)[CARD] == driver
        assert drivers(host)["0000:01:00.1"] == "vfio-pci"
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert host.show()["devices"] == before
        assert not one.journal.ledger.devices


@pytest.mark.parametrize(("libvirt", "driver"), [(9_000_000, "vfio-pci"), (11_003_000, "labvfio")])
async def test_an_old_libvirt_may_take_a_managed_card_from_its_variant(
    tmp_path: Path, libvirt: int, driver: str, autojump_clock: trio.testing.MockClock
):
    host = lab(libvirt)
    before = host.show()["devices"]
    async with stable(host, tmp_path / "journal", policy(CARD, vfio_driver="labvfio")) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[CARD]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert drivers(host)[CARD] == driver
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert host.show()["devices"] == before
        assert not one.journal.ledger.devices


# --- the boot framebuffer

SCREEN_CARD, PLATFORM = "0000:02:00.0", "efi-framebuffer.0"
DISPLAY_MANAGER = "display-manager.service"


def screen(release: str = "6.1.0-sim") -> SimulatedHost:
    return SimulatedHost(replace(SCREEN, release=release), parse=parse_domain, limit=60.0)


def policy(address: str = CARD, **more: Any) -> Settings:
    return Settings(devices=(DevicePolicy(name="it", match=Match(address=address), **more),))


KEPT = (
    *("/driver_override", "/driver", "/power/control", "/d3cold_allowed", "/reset_method", "/resource"),
    *("/bind", "/uevent"),
)


def shown(host: SimulatedHost) -> dict[str, str]:
    """All that must be as it was; what a driver makes may get another number."""
    tree = host.kernel.tree
    found = {
        path: text
        for path, text in tree.flat("/sys/devices", "/sys/class", "/sys/bus/platform").items()
        if path.endswith(KEPT) and not re.search("/(drm|sound|net|nvme|block)/", path)
    }
    for path in ("/proc/iomem", "/proc/fb"):
        found[path] = tree.read(path) if tree.exists(path) else ""
    return found | {"units": " ".join(sorted(host.units.paths))}


def nothing_left(one: Stable) -> None:
    ledger = one.journal.ledger
    left = (
        ledger.devices,
        ledger.attributes,
        ledger.framebuffers,
        ledger.bars,
        ledger.removed,
        ledger.recoveries,
    )
    assert left == ({}, {}, {}, {}, {}, {})
    assert not ledger.troubles


@pytest.mark.parametrize("release", ["6.1.0-sim", "6.12.0-sim"])
async def test_the_boot_framebuffer_goes_first_and_comes_back_last(
    tmp_path: Path, release: str, autojump_clock: trio.testing.MockClock
):
    host = screen(release)
    host.units.start(DISPLAY_MANAGER, f"/system.slice/{DISPLAY_MANAGER}")
    before = shown(host)
    settings = policy(SCREEN_CARD, units=(DISPLAY_MANAGER,))
    async with stable(host, tmp_path / "journal", settings) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[SCREEN_CARD]))
        writes = len(host.kernel.log)
        await host.hypervisor.start("win11")
        await one.settle()
        assert host.show()["devices"][SCREEN_CARD]["on_vfio"]
        assert not host.kernel.pci.screen.messages
        assert not host.kernel.tree.exists("/dev/fb0")
        done = [path.rpartition("/sys/")[2] for path, _ in host.kernel.log[writes:]]
        unbind = "bus/platform/drivers/efi-framebuffer/unbind"
        order = [p for p in done if p == unbind or p.endswith(("vtcon1/bind", "drivers_probe"))]
        assert [name.rpartition("/")[2] for name in order] == ["bind", "unbind", "drivers_probe"]
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert shown(host) == before
        nothing_left(one)
        told = [kind for kind, _, _ in one.told]
        assert told.index("start") > len(told) - 1 - told[::-1].index("framebuffer")


async def test_without_us_the_guest_gets_a_card_without_memory(autojump_clock: trio.testing.MockClock):
    """So it is the lab that the simulated kernel follows."""
    host = screen()
    await host.hypervisor.define(domain("win11", hostdevs=[SCREEN_CARD]))
    await host.hypervisor.start("win11")
    assert "can't reserve" in host.kernel.pci.screen.messages[0]


async def test_whoever_has_the_screen_open_is_in_the_way(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = screen()
    host.kernel.processes.start(
        pid=77, command="Xorg", uid=0, cgroup="/system.slice/x.service", paths=["/dev/fb0"]
    )
    before = shown(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[SCREEN_CARD]))
        with pytest.raises(HostFailed, match=r"Xorg .* has /dev/fb0 open"):
            await host.hypervisor.start("win11")
        await one.settle()
        assert shown(host) == before


async def test_a_framebuffer_that_cannot_be_bound_again_is_said_and_the_card_is_home(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = screen()
    host.units.start(DISPLAY_MANAGER, f"/system.slice/{DISPLAY_MANAGER}")
    settings = policy(SCREEN_CARD, units=(DISPLAY_MANAGER,))
    async with stable(host, tmp_path / "journal", settings) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[SCREEN_CARD]))
        await host.hypervisor.start("win11")
        host.kernel.cause("write-fails", "/sys/bus/platform/drivers/efi-framebuffer/bind", "ENODEV")
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert list(one.journal.ledger.troubles) == [PLATFORM]
        assert "stays dark" in one.journal.ledger.troubles[PLATFORM].remedy
        assert one.plan.owners[SCREEN_CARD].kind == "host"
        assert DISPLAY_MANAGER in host.units.paths
        # The card can be given away all the same, and when the kernel is willing the screen comes back.
        await host.hypervisor.start("win11")
        await host.hypervisor.destroy("win11")
        host.kernel.lift("write-fails", "/sys/bus/platform/drivers/efi-framebuffer/bind")
        await one.reconciler.retry(PLATFORM)
        await one.settle()
        assert host.kernel.tree.exists("/dev/fb0")
        nothing_left(one)


# --- reset


async def test_the_reset_of_policy_is_set_while_the_domain_has_the_card(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    before = shown(host)
    path = f"/sys/bus/pci/devices/{GPU}/reset_method"
    async with stable(host, tmp_path / "journal", policy(GPU, reset=("bus",))) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert host.files.read(path) == "bus\n"
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert shown(host) == before
        nothing_left(one)


async def test_a_reset_that_the_kernel_does_not_offer_is_said_and_the_domain_starts(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    path = f"/sys/bus/pci/devices/{GPU}/reset_method"
    async with stable(host, tmp_path / "journal", policy(GPU, reset=("device_specific", "flr"))) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert host.files.read(path) == "flr\n"
        (refusal,) = one.plan.refusals
        assert "cannot be reset by device_specific: the kernel offers flr, bus" in refusal.reason
        assert not one.journal.ledger.troubles


# --- BARs


def bar_size(host: SimulatedHost, index: int = 0) -> int:
    start, end = (
        int(word, 16)
        for word in host.files.read(f"/sys/bus/pci/devices/{GPU}/resource").splitlines()[index].split()[:2]
    )
    return (end - start + 1) >> 20


@pytest.mark.parametrize(("bar", "size"), [("max", 16384), ({0: 8192}, 8192), ("keep", 256)])
async def test_bars_grow_for_the_domain_and_are_as_before_after_it(
    tmp_path: Path, bar: Any, size: int, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    before = shown(host)
    async with stable(host, tmp_path / "journal", policy(GPU, bar=bar)) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert bar_size(host) == size
        assert not one.plan.refusals
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert shown(host) == before
        nothing_left(one)


async def test_a_size_that_a_bar_cannot_have_is_said(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    async with stable(host, tmp_path / "journal", policy(GPU, bar={0: 32768, 5: 256})) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert bar_size(host) == 256
        said = " ".join(trouble.reason for trouble in one.journal.ledger.troubles.values())
        assert "BAR 0 of 0000:01:00.0 cannot be made 32 GiB: the card cannot have that size" in said
        assert "BAR 5 of 0000:01:00.0 cannot be made 256 MiB: it is none that can be resized" in said
        assert one.plan.owners[GPU].kind == "domain"
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert drivers(host)[GPU] == "amdgpu"
        assert not one.journal.ledger.bars


async def test_a_bridge_without_room_is_said_and_the_domain_starts(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    host.kernel.cause("no-room", GPU, "1024")
    before = shown(host)
    async with stable(host, tmp_path / "journal", policy(GPU, bar="max")) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert host.show()["devices"][GPU]["on_vfio"]
        assert bar_size(host) == 256
        (trouble, *_) = one.journal.ledger.troubles.values()
        assert "BAR 0 of 0000:01:00.0 cannot be made 16 GiB: No space left on device" in trouble.reason
        assert one.plan.owners[GPU].kind == "domain"
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert shown(host) == before


# --- power


async def test_a_card_is_woken_before_it_is_touched(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    host.kernel.cause("d3cold", GPU, "")
    before = shown(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert not host.kernel.pci.is_dead(GPU)
        assert host.files.read(f"/sys/bus/pci/devices/{GPU}/power/runtime_status") == "active\n"
        await host.hypervisor.destroy("win11")
        await one.settle()
        nothing_left(one)
        after = shown(host)
        assert {p for p in before if before[p] != after.get(p)} <= {
            p for p in before if p.endswith("/runtime_status")
        }


async def test_with_power_kept_a_sleeping_card_dies_of_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    host.kernel.cause("d3cold", GPU, "")
    async with stable(host, tmp_path / "journal", policy(GPU, power="keep")):
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        with pytest.raises(HostFailed, match="does not answer any more"):
            await host.hypervisor.start("win11")
        assert host.kernel.pci.is_dead(GPU)


# --- life


async def test_a_dead_card_is_not_given_away(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    host.kernel.cause("dead", GPU, "")
    before, writes = shown(host), len(host.kernel.log)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        with pytest.raises(HostFailed, match="does not answer any more"):
            await host.hypervisor.start("win11")
        await one.settle()
        assert shown(host) == before
        assert not [path for path, _ in host.kernel.log[writes:] if "unbind" in path]


async def test_a_card_that_comes_back_dead_is_said_and_no_driver_gets_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        host.kernel.cause("dead", GPU, "")
        await host.hypervisor.destroy("win11")
        await one.settle()
        trouble = one.journal.ledger.troubles[GPU]
        assert "does not answer any more" in trouble.reason
        assert "off and on" in trouble.remedy
        assert list(one.journal.ledger.troubles) == [GPU]
        assert drivers(host)[GPU] is None
        host.kernel.lift("dead", GPU)  # power came and went
        await one.reconciler.retry(GPU)
        await one.settle()
        assert drivers(host)[GPU] == "amdgpu"
        nothing_left(one)


@pytest.mark.parametrize("how", ["reset", "rescan"])
async def test_a_card_that_comes_back_dead_is_woken_where_policy_consents(
    tmp_path: Path, how: Any, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    before = shown(host)
    async with stable(host, tmp_path / "journal", policy(GPU, recover=how)) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        for address in GPU_CARD:
            host.kernel.cause("dead", address, how)
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert not one.journal.ledger.troubles
        assert shown(host) == before
        nothing_left(one)


@pytest.mark.parametrize("how", ["reset", "rescan"])
async def test_what_does_not_help_is_tried_once_and_said(
    tmp_path: Path, how: Any, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal", policy(GPU, recover=how)) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        host.kernel.cause("dead", GPU, "")
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert list(one.journal.ledger.troubles) == [GPU]
        tries = [path for path, _ in host.kernel.log if path.endswith(("/reset_subordinate", "/remove"))]
        assert len(tries) == (1 if how == "reset" else len(GPU_CARD))
        if how == "reset":  # the rest of the card is in use by now, and would be hit
            host.kernel.lift("dead", GPU)
        else:
            host.kernel.faults.active["dead", GPU] = how
        await one.reconciler.retry(GPU)
        await one.settle()
        assert drivers(host)[GPU] == "amdgpu"
        nothing_left(one)


@pytest.mark.parametrize("how", ["reset", "rescan"])
async def test_a_dead_card_is_woken_for_a_domain_where_policy_consents(
    tmp_path: Path, how: Any, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    for address in GPU_CARD:
        host.kernel.cause("dead", address, how)
    async with stable(host, tmp_path / "journal", policy(GPU, recover=how)) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert [a for a in GPU_CARD if host.show()["devices"][a]["on_vfio"]] == list(GPU_CARD)
        await host.hypervisor.destroy("win11")
        await one.settle()
        nothing_left(one)


# --- kills


async def arranged(kind: str) -> tuple[SimulatedHost, Settings, str]:
    match kind:
        case "screen":
            host = screen()
            host.units.start(DISPLAY_MANAGER, f"/system.slice/{DISPLAY_MANAGER}")
            return host, policy(SCREEN_CARD, units=(DISPLAY_MANAGER,)), SCREEN_CARD
        case "variant":
            return lab(), Settings(), CARD
        case "bars":
            return simulated(), policy(GPU, bar="max", reset=("bus",)), GPU
        case "asleep":
            host = simulated()
            host.kernel.cause("d3cold", GPU, "")
            return host, Settings(), GPU
        case _:
            host = simulated()
            for address in GPU_CARD:
                host.kernel.cause("dead", address, kind)
            return host, policy(GPU, recover=kind), GPU


@pytest.mark.parametrize("action", ["start", "destroy"])
@pytest.mark.parametrize("kind", ["screen", "variant", "bars", "asleep", "reset", "rescan"])
async def test_killed_at_any_line(
    memory_path: Path, kind: str, action: str, autojump_clock: trio.testing.MockClock
):
    """Afterwards the domain has its card, or everything is as before."""

    async def once(line: int) -> bool:
        host, settings, card = await arranged(kind)
        before = shown(host)
        path = memory_path / f"{line}.journal"
        await host.hypervisor.define(domain("win11", hostdevs=[card]))
        if action == "destroy":
            async with stable(host, path, settings) as one:
                await host.hypervisor.start("win11")
                await one.settle()
            if kind in ("reset", "rescan"):
                for address in GPU_CARD:
                    host.kernel.cause("dead", address, kind)
        died = await life(host, path, line, does(host, action), settings)
        async with stable(host, path, settings) as one:
            await trio.sleep(40)
            await one.settle()
            if await host.hypervisor.running():
                assert host.show()["devices"][card]["on_vfio"]
                assert not host.kernel.pci.screen.messages
                await host.hypervisor.destroy("win11")
                await one.settle()
            after = shown(host)
            different = {p for p in before | after if before.get(p) != after.get(p)}
            assert {p for p in different if not p.endswith("/runtime_status")} == set()
            nothing_left(one)
        return died

    await at_every_line(once, more_than=10, below=300)
