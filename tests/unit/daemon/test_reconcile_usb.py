"""USB devices on the simulated host: plugged in, pulled out, fought over, and the daemon killed meanwhile."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.daemon.mortal import at_every_line, life
from tests.unit.daemon.stable import CARD, GPU, Stable, simulated, stable

from hostler.errors import HostFailed
from hostlerd.host.simulated.guests import domain, usb_hostdev
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.usb import THINGS
from hostlerd.model.plan import AttachUsb, DetachUsb
from hostlerd.model.settings import Settings, UsbMatch, UsbPolicy
from hostlerd.model.usb import UsbDevice
from hostlerd.observe.usb import observe_usb
from hostlerd.sources.quiet import kick_when_quiet

pytestmark = pytest.mark.trio

STICK, KEYBOARD = THINGS["stick"], THINGS["keyboard"]
PORT, OTHER_PORT = "1-2", "1-3"


def rule(to: str = "win11", **match: Any) -> Settings:
    return Settings(usb=(UsbPolicy(name="stick", match=UsbMatch(**(match or {"port": PORT})), domain=to),))


async def started(host: SimulatedHost, *names: str, **what: Any) -> None:
    for name in names:
        await host.hypervisor.define(domain(name, cores=1, **what))
        await host.hypervisor.start(name)


def users(host: SimulatedHost) -> dict[str, str | None]:
    """Port to the domain that has it, read from the kernel."""
    return {port: device["user"] for port, device in host.show()["usb"].items()}


def listed(host: SimulatedHost, name: str) -> list[str]:
    """What libvirt lists of USB in a running domain."""
    live = host.hypervisor.domains[name].live or ""
    return [h.source or "" for h in host.hypervisor._parse(live).hostdevs if h.kind == "usb"]


def device(host: SimulatedHost, port: str = PORT) -> UsbDevice:
    return observe_usb(host.files)[port]


def failures(one: Stable) -> list[str]:
    return [text for kind, _, text in one.told if kind == "failed"]


async def test_a_device_goes_to_its_domain_when_it_is_plugged_in_and_when_that_starts(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal", rule(vendor=STICK.vendor, product=STICK.product)) as one:
        host.kernel.plug_usb(STICK, PORT)
        await one.settle()
        assert users(host) == {PORT: None}
        assert one.plan.converged
        await started(host, "win11")
        await one.settle()
        assert users(host) == {PORT: "win11"}
        host.kernel.plug_usb(THINGS["other-stick"], OTHER_PORT)
        host.kernel.plug_usb(KEYBOARD, "1-4")
        await one.settle()
        assert users(host) == {PORT: "win11", OTHER_PORT: "win11", "1-4": None}
        assert listed(host, "win11") == ["0951:1666 bus 1 device 2", "0951:1666 bus 1 device 3"]
        assert (
            "attach-usb",
            "usb 1-2",
            "host -> win11: 0951:1666 is win11's by the rule 'stick'",
        ) in one.told
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert set(users(host).values()) == {None}
        assert one.plan.converged
        assert not failures(one)


async def test_pulled_out_it_is_detached_and_plugged_in_again_attached(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal", rule()) as one:
        await started(host, "win11")
        host.kernel.plug_usb(STICK, PORT)
        await one.settle()
        host.kernel.unplug_usb(PORT)
        assert listed(host, "win11") == ["0951:1666 bus 1 device 2"]  # libvirt was not told
        await one.settle()
        assert listed(host, "win11") == []
        host.kernel.plug_usb(STICK, PORT)
        host.kernel.storm_usb(PORT, 20)
        await one.settle()
        assert listed(host, "win11") == ["0951:1666 bus 1 device 23"]
        host.kernel.storm_usb(PORT, 1)  # out and in before anybody looks
        await one.settle()
        assert listed(host, "win11") == ["0951:1666 bus 1 device 24"]
        assert users(host) == {PORT: "win11"}
        assert not failures(one)


async def test_a_device_is_left_alone_until_it_is_configured(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal", rule()) as one:
        await started(host, "win11")
        host.kernel.usb.plug(STICK, PORT)
        host.kernel.usb.authorize(PORT, "0")
        await one.settle()
        assert users(host) == {PORT: None}
        host.kernel.write(f"/sys/bus/usb/devices/{PORT}/authorized", "1")
        await one.settle()
        assert users(host) == {PORT: "win11"}


async def test_the_serial_number_tells_two_sticks_apart(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal", rule(serial=THINGS["other-stick"].serial)) as one:
        await started(host, "win11")
        host.kernel.plug_usb(STICK, PORT)
        host.kernel.plug_usb(THINGS["other-stick"], OTHER_PORT)
        await one.settle()
        assert users(host) == {PORT: None, OTHER_PORT: "win11"}


async def test_a_serial_number_that_cannot_be_read_holds_nobody_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal", rule(serial=STICK.serial)) as one:
        await started(host, "win11")
        plugged = host.kernel.usb.plug(STICK, PORT)
        host.kernel.tree.locked.add(f"{plugged.folder}/serial")
        await one.settle()
        await host.hypervisor.define(domain("gamer", hostdevs=["0000:02:00.0"]))
        began = trio.current_time()
        await host.hypervisor.start("gamer")
        assert trio.current_time() - began < 5
        await one.settle()
        assert users(host) == {PORT: None}
        assert not one.journal.ledger.troubles
        assert len(host.files.hung) <= 3
        host.kernel.tree.locked.clear()
        host.kernel.storm_usb(PORT, 1)
        await trio.sleep(60)  # a look may be at the old one still; gamer's interrupts are looked for, too
        await one.settle()
        assert users(host) == {PORT: "win11"}


async def test_what_another_domain_has_is_refused_by_name(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    host.kernel.plug_usb(STICK, PORT)
    async with stable(host, tmp_path / "journal", rule()) as one:
        await started(host, "work", usb=["0951:1666"])
        await started(host, "win11")
        await one.settle()
        assert users(host) == {PORT: "work"}
        (refusal,) = one.plan.refusals
        assert (refusal.object, refusal.claimed_by, refusal.claim) == ("usb 1-2", "work", None)
        assert "belongs to domain work" in refusal.reason
        await host.hypervisor.destroy("work")
        await one.settle()
        assert users(host) == {PORT: "win11"}
        # And the other way round: who comes later learns it from the hook.
        with pytest.raises(HostFailed, match="belongs to domain win11"):
            await host.hypervisor.start("work")
        await one.settle()
        assert users(host) == {PORT: "win11"}
        assert not one.journal.ledger.claims.keys() - {host.hypervisor.domains["win11"].uuid}


async def test_what_others_attached_is_never_detached(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    async with stable(host, tmp_path / "journal", rule()) as one:
        await started(host, "win11", "work")
        host.kernel.plug_usb(STICK, OTHER_PORT)
        by_hand = device(host, OTHER_PORT)
        await host.hypervisor.attach_usb_device("work", usb_hostdev(by_hand, alias=False))
        host.kernel.plug_usb(THINGS["other-stick"], PORT)
        await one.settle()
        assert users(host) == {PORT: "win11", OTHER_PORT: "work"}
        host.kernel.unplug_usb(OTHER_PORT)
        await one.settle()
        assert listed(host, "work") == ["0951:1666 bus 1 device 2"]
        one.reconciler.apply(Settings())
        await one.settle()
        assert users(host) == {PORT: None}
        assert listed(host, "work") == ["0951:1666 bus 1 device 2"]


async def test_a_rule_that_names_another_domain_moves_the_device(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal", rule()) as one:
        await started(host, "win11", "work")
        host.kernel.plug_usb(STICK, PORT)
        await one.settle()
        one.reconciler.apply(rule("work"))
        await one.settle()
        assert users(host) == {PORT: "work"}
        assert listed(host, "win11") == []


async def test_a_program_of_the_host_keeps_its_device(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    host.kernel.plug_usb(STICK, PORT)
    host.kernel.usb.claim(PORT, "scanner")
    async with stable(host, tmp_path / "journal", rule()) as one:
        await started(host, "win11")
        await one.settle()
        assert users(host) == {PORT: "scanner"}
        (refusal,) = one.plan.refusals
        assert "fuser -v /dev/bus/usb/001/002" in refusal.remedy
        host.kernel.usb.let_go("scanner")
        await one.settle()
        assert users(host) == {PORT: "win11"}


async def test_an_attach_that_fails_is_told_and_not_tried_for_ever(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal", rule()) as one:
        await started(host, "win11")
        host.kernel.faults.cause("attach-fails", "win11")
        host.kernel.plug_usb(STICK, PORT)
        await one.settle()
        assert 1 <= len(failures(one)) <= 3
        for _ in range(10):
            one.reconciler.look_at_host.kick()
            await one.settle()
        assert len(failures(one)) == 3
        assert failures(one)[-1].endswith("or the policy is reloaded")
        assert not one.journal.ledger.troubles
        host.kernel.faults.active.clear()
        host.kernel.storm_usb(PORT, 1)
        await one.settle()
        assert users(host) == {PORT: "win11"}


async def test_a_device_that_starts_anew_whenever_it_is_opened_is_not_given_for_ever(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    attach, opened = host.hypervisor.attach_usb, list[float]()

    async def and_restarts(uuid: str, plugged: UsbDevice) -> Any:
        live = await attach(uuid, plugged)
        opened.append(trio.current_time())
        host.kernel.storm_usb(PORT, 1)
        return live

    host.hypervisor.attach_usb = and_restarts  # type: ignore[method-assign]
    async with stable(host, tmp_path / "journal", rule()) as one:
        await started(host, "win11")
        host.kernel.plug_usb(STICK, PORT)
        await trio.sleep(300)
        for moment in opened:
            assert len([other for other in opened if moment <= other < moment + 59]) <= 10
        assert len(opened) > 30  # nor given up
        assert any("comes and goes" in text for text in failures(one))
        host.hypervisor.attach_usb = attach  # type: ignore[method-assign]
        await trio.sleep(120)
        assert users(host) == {PORT: "win11"}
        assert one.plan.converged


async def test_a_controller_that_is_given_away_takes_its_devices_along(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """Bus 1 is the card's own controller."""
    host = simulated()
    assert host.kernel.usb.buses[CARD[2]] == 1
    async with stable(host, tmp_path / "journal", rule()) as one:
        await started(host, "work")
        host.kernel.plug_usb(STICK, PORT)
        await one.settle()
        assert users(host) == {PORT: None}
        await started(host, "win11", hostdevs=[GPU])
        await one.settle()
        assert users(host) == {}
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert users(host) == {PORT: None}
        assert one.plan.converged


async def test_pulled_out_while_libvirt_attaches(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    attach = host.hypervisor.attach_usb

    async def late(uuid: str, plugged: UsbDevice) -> Any:
        host.kernel.unplug_usb(PORT)
        return await attach(uuid, plugged)

    host.hypervisor.attach_usb = late  # type: ignore[method-assign]
    async with stable(host, tmp_path / "journal", rule()) as one:
        await started(host, "win11")
        host.kernel.plug_usb(STICK, PORT)
        await one.settle()
        assert listed(host, "win11") == []
        assert not failures(one)  # going away is no failure
        assert one.plan.converged


async def test_the_domain_stops_while_libvirt_attaches(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    attach = host.hypervisor.attach_usb

    async def late(uuid: str, plugged: UsbDevice) -> Any:
        await host.hypervisor.destroy("win11")
        return await attach(uuid, plugged)

    host.hypervisor.attach_usb = late  # type: ignore[method-assign]
    async with stable(host, tmp_path / "journal", rule()) as one:
        await started(host, "win11")
        host.kernel.plug_usb(STICK, PORT)
        await one.settle()
        assert users(host) == {PORT: None}
        assert len(failures(one)) == 1
        assert one.plan.converged


async def test_a_storm_is_a_few_passes(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    """As the daemon hears it on a live host: a device that goes and comes fifty times in ten seconds."""
    host = simulated()
    heard = trio.Event()

    def hear() -> None:
        heard.set()

    async def wait() -> None:
        nonlocal heard
        await heard.wait()
        heard = trio.Event()

    async with stable(host, tmp_path / "journal", rule()) as one, trio.open_nursery() as nursery:
        host.kernel.usb_kicks[:] = [hear]
        nursery.start_soon(kick_when_quiet, wait, one.reconciler.look_at_host.kick)
        await started(host, "win11")
        host.kernel.plug_usb(STICK, PORT)
        await trio.sleep(5)
        before = len(one.passes)
        for _ in range(50):
            host.kernel.storm_usb(PORT, 1)
            await trio.sleep(0.2)
        await trio.sleep(5)
        assert len(one.passes) - before < 30
        assert users(host) == {PORT: "win11"}
        assert listed(host, "win11") == [f"0951:1666 bus 1 device {device(host).number}"]
        nursery.cancel_scope.cancel()


# --- killed


@pytest.mark.parametrize("meanwhile", ["nothing", "pulled out", "plugged again", "domain stopped", "by hand"])
@pytest.mark.parametrize("event", ["plug", "unplug", "again"])
async def test_killed_at_any_line_it_ends_right(
    tmp_path: Path, event: str, meanwhile: str, autojump_clock: trio.testing.MockClock
):
    """At every line of the journal, with more happening before the next start."""

    async def once(line: int) -> bool:
        host, path = simulated(), tmp_path / f"journal-{line}"
        await started(host, "win11")
        if event != "plug":
            host.kernel.plug_usb(STICK, PORT)
            async with stable(host, path, rule()) as one:
                await one.settle()

        async def happens() -> None:
            match event:
                case "plug":
                    host.kernel.plug_usb(STICK, PORT)
                case "unplug":
                    host.kernel.unplug_usb(PORT)
                case _:
                    host.kernel.storm_usb(PORT, 1)

        died = await life(host, path, line, happens, rule())
        there = PORT in users(host)
        by_hand = False
        match meanwhile:
            case "pulled out" if there:
                host.kernel.unplug_usb(PORT)
            case "plugged again" if there:
                host.kernel.storm_usb(PORT, 1)
            case "domain stopped":
                await host.hypervisor.destroy("win11")
            case "by hand" if there:
                with contextlib.suppress(HostFailed):
                    await host.hypervisor.attach_usb_device("win11", usb_hostdev(device(host), alias=False))
                    by_hand = True
            case _:
                pass
        async with stable(host, path, rule()) as one:
            await one.settle()
            running = bool(host.hypervisor.domains["win11"].live)
            assert users(host) == ({PORT: "win11" if running else None} if PORT in users(host) else {})
            if running:
                expected = [f"0951:1666 bus 1 device {device(host).number}"] if PORT in users(host) else []
                assert listed(host, "win11") == expected
            assert one.plan.converged
            assert not one.journal.ledger.outstanding
            one.reconciler.apply(Settings())
            await one.settle()
            if running:  # what was attached by hand is not ours to take
                assert bool(listed(host, "win11")) == by_hand
        return died

    await at_every_line(once, more_than=1, below=50)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(("plug", "unplug", "storm", "start", "stop", "by hand", "reload", "settle")),
        st.sampled_from((PORT, OTHER_PORT)),
        st.sampled_from(("win11", "work")),
        st.sampled_from(("stick", "other-stick", "keyboard")),
    ),
    max_size=14,
)


@given(actions=ACTIONS)
@settings(max_examples=60, deadline=None)
async def test_whatever_happens_it_comes_to_rest_with_one_owner_each(
    actions: list[tuple[str, str, str, str]],
):
    with tempfile.TemporaryDirectory(prefix="hostler-") as folder:
        await play(Path(folder) / "journal", actions)


async def play(path: Path, actions: list[tuple[str, str, str, str]]) -> None:
    host = simulated()
    by_hand: set[tuple[str, int]] = set()
    policy = rule("win11", vendor=STICK.vendor)
    for name in ("win11", "work"):
        await host.hypervisor.define(domain(name, cores=1))
    async with stable(host, path, policy) as one:
        for action, port, name, thing in actions:
            with contextlib.suppress(HostFailed, ValueError, OSError):
                match action:
                    case "plug":
                        host.kernel.plug_usb(THINGS[thing], port)
                    case "unplug":
                        host.kernel.unplug_usb(port)
                    case "storm" if port in users(host):
                        host.kernel.storm_usb(port, 3)
                    case "start":
                        await host.hypervisor.start(name)
                    case "stop":
                        await host.hypervisor.destroy(name)
                        by_hand = {(who, number) for who, number in by_hand if who != name}
                    case "by hand" if port in users(host):
                        plugged = device(host, port)
                        await host.hypervisor.attach_usb_device(name, usb_hostdev(plugged, alias=False))
                        by_hand.add((name, plugged.number))
                    case "reload":
                        policy = rule(name, vendor=STICK.vendor)
                        one.reconciler.apply(policy)
                    case _:
                        await one.settle()
        await one.settle()
        assert not [s for s in one.plan.steps if isinstance(s, AttachUsb | DetachUsb)]
        lists = {name: listed(host, name) for name in ("win11", "work") if host.hypervisor.domains[name].live}
        numbers = [source.rpartition(" ")[2] for sources in lists.values() for source in sources]
        assert len(numbers) == len(set(numbers))  # never two owners
        for name, number in by_hand:
            assert str(number) in [source.rpartition(" ")[2] for source in lists[name]]  # nor taken away
        target = policy.usb[0].domain
        for port, plugged in observe_usb(host.files).items():
            held = [name for name, number in by_hand if number == plugged.number]
            wanted = target if target in lists and plugged.vendor == STICK.vendor else None
            assert users(host)[port] == (held[0] if held else wanted)
