"""Who has the card open when a domain wants it: refused, stopped, ended; and everything that was stopped comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.daemon.mortal import at_every_line, does, life
from tests.unit.daemon.stable import CARD, GPU, Stable, simulated, stable
from tests.unit.daemon.test_reconcile import on_vfio, with_uuid

from hostler.errors import HostFailed, InUse, Unreachable
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.settings import DevicePolicy, Match, Settings
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio

AUDIO = "0000:01:00.1"
HOST_SCREEN = "0000:0b:00.0"
NVIDIA, NVIDIA_AUDIO = "0000:04:00.0", "0000:04:00.1"
STACK = ("nvidia", "nvidia_modeset", "nvidia_drm", "nvidia_uvm")
SERVICE = "/system.slice/ollama.service"


def policy(**more: Any) -> Settings:
    return card_policy(GPU, **more)


def card_policy(address: str, **more: Any) -> Settings:
    return Settings(devices=(DevicePolicy(name="it", match=Match(address=address), **more),))


def state(host: SimulatedHost) -> dict[str, Any]:
    """Everything of the kernel that must be as it was, and what runs."""
    kept = ("/sys/bus/pci/devices/", "/sys/class/vtconsole/", "/sys/devices/pci")
    tree = host.kernel.tree
    attributes = {
        path: text
        for path, text in tree.flat("/sys").items()
        if path.startswith(kept)
        and path.endswith(("/driver_override", "/control", "/d3cold_allowed", "/bind"))
    }
    shown = host.show()
    modules = {name for name in STACK if host.kernel.tree.exists(f"/sys/module/{name}/initstate")}
    return {
        "devices": shown["devices"],
        "slices": shown["slices"],
        "attributes": attributes,
        "modules": modules,
        "units": set(host.units.paths),
    }


def hold(
    host: SimulatedHost, address: str, pid: int = 900, command: str = "ollama", cgroup: str = SERVICE
) -> None:
    host.kernel.hold(address, pid=pid, command=command, uid=0, cgroup=cgroup)


def stays_clean(one: Stable) -> None:
    ledger = one.journal.ledger
    left = (ledger.devices, ledger.attributes, ledger.stopped, ledger.unloaded, ledger.troubles)
    assert left == ({}, {}, {}, {}, {})


async def refused(host: SimulatedHost, name: str = "win11") -> str:
    with pytest.raises(HostFailed) as caught:
        await host.hypervisor.start(name)
    return caught.value.message


async def test_a_holder_refuses_the_start_and_is_named(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    hold(host, GPU)
    before, writes = state(host), len(host.kernel.log)
    async with stable(host, tmp_path / "journal") as one:
        xml = with_uuid(domain("win11", hostdevs=[GPU]))
        with pytest.raises(InUse) as caught:
            await one.reconciler.prepare(parse_domain(xml), xml)
        assert "ollama (process 900, user 0, ollama.service) has /dev/dri/" in caught.value.message
        assert caught.value.data["object"] == GPU
        await one.settle()
        assert state(host) == before
        assert not [path for path, _ in host.kernel.log[writes:] if "unbind" in path or "override" in path]
        stays_clean(one)


async def test_the_control_of_a_sound_card_that_a_sound_server_holds_is_no_hindrance(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    nodes = [path for path in host.kernel.tree.listdir("/dev/snd") if path.startswith("controlC")]
    host.kernel.processes.start(
        pid=901, command="wireplumber", uid=1000, cgroup="/user.slice", paths=[f"/dev/snd/{n}" for n in nodes]
    )
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert on_vfio(host) == list(CARD)


async def test_an_open_stream_of_a_companion_refuses_the_start(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    hold(host, AUDIO, command="pipewire", cgroup="/user.slice")
    async with stable(host, tmp_path / "journal"):
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        assert "pipewire" in await refused(host)


async def test_a_unit_is_stopped_and_started_again(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    host.units.start("ollama.service", SERVICE)
    hold(host, GPU)
    before = state(host)
    async with stable(host, tmp_path / "journal", policy(holders="stop")) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert on_vfio(host) == list(CARD)
        assert "ollama.service" not in host.units.paths
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert state(host) == before
        stays_clean(one)


async def test_a_unit_that_does_not_stop_refuses_the_start(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    host.units.start("ollama.service", SERVICE)
    host.kernel.faults.cause("unit-stays", "ollama.service")
    hold(host, GPU)
    before = state(host)
    async with stable(host, tmp_path / "journal", policy(holders="stop", holder_limit=2.0)) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        assert "ollama.service has not stopped within 2 s" in await refused(host)
        await one.settle()
        assert state(host) == before
        stays_clean(one)


async def test_a_unit_that_does_not_start_again_is_said_and_the_card_is_home(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    host.units.start("ollama.service", SERVICE)
    hold(host, GPU)
    async with stable(host, tmp_path / "journal", policy(holders="stop")) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        host.kernel.faults.cause("unit-fails", "ollama.service")
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert not on_vfio(host)
        assert list(one.journal.ledger.troubles) == ["ollama.service"]
        host.kernel.faults.lift("unit-fails", "ollama.service")
        await one.reconciler.retry("ollama.service")
        await one.settle()
        assert "ollama.service" in host.units.paths
        stays_clean(one)


async def test_a_container_is_stopped_and_started_by_its_engine(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    answer = await host.simulate(
        "contain", {"name": "comfy", "address": GPU, "pid": "77", "command": "python3", "uid": "0"}
    )
    async with stable(host, tmp_path / "journal", policy(holders="stop")) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        assert on_vfio(host) == list(CARD)
        assert list(one.journal.ledger.stopped) == [answer["id"]]
        await host.hypervisor.destroy("win11")
        await one.settle()
        stays_clean(one)
        assert host.kernel.processes.within(f"docker-{answer['id']}.scope")


async def test_a_program_of_a_session_is_not_stopped_behind_its_users_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    hold(host, GPU, command="steam", cgroup="/user.slice/user-1000.slice/session-3.scope")
    async with stable(host, tmp_path / "journal", policy(holders="stop")):
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        assert "steam (process 900" in await refused(host)
        assert 900 in host.kernel.processes.open


async def test_the_display_manager_goes_and_comes_back_with_the_screen(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """The boot card of the host: compositor in a session, console on its frame buffer."""
    host = simulated()
    host.units.start("display-manager.service", "/system.slice/display-manager.service")
    session = "/user.slice/user-1000.slice/session-2.scope"
    hold(host, HOST_SCREEN, command="kwin_wayland", cgroup=session)
    before = state(host)
    assert any(path.endswith("bind") and text.strip() == "1" for path, text in before["attributes"].items())
    async with stable(host, tmp_path / "journal", card_policy(HOST_SCREEN, holders="stop")) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[HOST_SCREEN]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert HOST_SCREEN in on_vfio(host)
        assert "display-manager.service" not in host.units.paths
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert state(host) == before
        stays_clean(one)
        written = [path for path, _ in host.kernel.log if "vtcon" in path or path.endswith("/unbind")]
        assert "vtcon" in written[0], "the console lets go first"


async def test_units_that_policy_names_are_stopped_first(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    host.units.start("a.service", "/system.slice/a.service")
    settings = policy(units=("a.service", "absent.service"))
    async with stable(host, tmp_path / "journal", settings) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        assert "a.service" not in host.units.paths
        assert list(one.journal.ledger.stopped) == ["a.service"]
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert "a.service" in host.units.paths
        stays_clean(one)


@pytest.mark.parametrize(("fault", "seconds"), [("", 0), ("ignores-sigterm", 2)])
async def test_a_holder_is_ended(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, fault: str, seconds: int
):
    host = simulated()
    hold(host, GPU)
    if fault:
        host.kernel.faults.cause(fault, "900")
    async with stable(host, tmp_path / "journal", policy(holders="terminate", holder_limit=2.0)):
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        began = trio.current_time()
        await host.hypervisor.start("win11")
        assert trio.current_time() - began == pytest.approx(seconds, abs=0.5)
        assert on_vfio(host) == list(CARD)
        assert 900 not in host.kernel.processes.open


async def test_a_holder_that_cannot_be_ended_refuses_the_start(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    hold(host, GPU)
    host.kernel.faults.cause("process-stays", "900")
    before = state(host)
    async with stable(host, tmp_path / "journal", policy(holders="terminate", holder_limit=2.0)) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        assert "has not ended after SIGTERM and SIGKILL" in await refused(host)
        await one.settle()
        assert state(host) == before
        stays_clean(one)


async def test_what_is_in_the_way_goes_side_by_side_and_others_are_not_starved(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """Three that have to be killed take as long as one; another domain is prepared within its own limit."""
    host = simulated()
    for pid in (900, 901, 902):
        hold(host, GPU, pid=pid, command=f"p{pid}")
        host.kernel.faults.cause("ignores-sigterm", str(pid))
    async with stable(host, tmp_path / "journal", policy(holders="terminate", holder_limit=8.0)):
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.define(domain("other", hostdevs=["0000:0b:00.3"], cores=1, threads=1))
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.hypervisor.start, "win11")
            nursery.start_soon(host.hypervisor.start, "other")
        assert trio.current_time() - began < 12
        assert {*CARD, "0000:0b:00.3"} <= set(on_vfio(host))


async def test_a_stopped_unit_is_not_forgotten_while_systemd_does_not_answer(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
):
    host = simulated()
    host.units.start("ollama.service", SERVICE)
    hold(host, GPU)

    async def away(_: object) -> dict[str, str]:
        raise Unreachable("the bus is away")

    async with stable(host, tmp_path / "journal", policy(holders="stop")) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        with monkeypatch.context() as patch:
            patch.setattr(type(host.units), "states", lambda _self, units: away(units))
            await host.hypervisor.destroy("win11")
            await one.settle()
            assert "ollama.service" in one.journal.ledger.stopped
        one.reconciler.look_at_host.kick()
        await one.settle()
        assert "ollama.service" in host.units.paths
        stays_clean(one)


async def test_one_that_opens_it_between_check_and_write_refuses_the_start(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """The override is written; right before the unbind everybody is looked at once more."""
    host = simulated()
    before = state(host)

    def opens() -> None:
        if (
            host.kernel.log
            and host.kernel.log[-1][0].endswith("driver_override")
            and 900 not in host.kernel.processes.open
        ):
            host.kernel.changed.remove(opens)
            hold(host, GPU)

    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        host.kernel.changed.append(opens)
        assert "ollama (process 900" in await refused(host)
        await one.settle()
        assert state(host) == before
        stays_clean(one)


async def test_an_idle_card_that_is_open_is_taken_when_it_has_been_closed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    hold(host, GPU)
    async with stable(host, tmp_path / "journal", policy(when_idle="vfio")) as one:
        await one.settle()
        assert not on_vfio(host)  # nor its companions
        assert [r for r in one.plan.refusals if r.object == GPU and "ollama" in r.reason]
        assert not one.journal.ledger.troubles
        host.kernel.let_go(900)
        await trio.sleep(5)
        assert on_vfio(host) == list(CARD)


async def plugged(host: SimulatedHost) -> None:
    await host.simulate("plug", {"card": "second"})


async def test_nvidia_is_left_by_unloading_and_comes_back_whole(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    await plugged(host)
    before = state(host)
    assert before["modules"] == set(STACK)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[NVIDIA]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert set(on_vfio(host)) == {NVIDIA, NVIDIA_AUDIO}
        assert not state(host)["modules"]
        assert not [path for path, text in host.kernel.log if path.endswith("nvidia/unbind")]
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert state(host) == before
        stays_clean(one)


async def test_an_nvidia_module_that_is_in_use_refuses_the_start_and_nothing_hangs(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    await plugged(host)
    host.kernel.faults.cause("module-held", "nvidia", "2")
    host.kernel.pci.count_users()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[NVIDIA]))
        assert "nvidia is in use" in await refused(host)
        await one.settle()
        assert state(host) == before
        assert not host.show()["hung"]
        stays_clean(one)


async def test_an_unloading_that_never_returns_takes_its_card_along_and_nothing_is_read(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """As NVIDIA's can from 595 on although nobody uses it: remove() waits inside delete_module."""
    host = simulated()
    await plugged(host)
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        host.kernel.faults.cause("hang-unbind", NVIDIA)
        await host.hypervisor.define(domain("win11", hostdevs=[NVIDIA]))
        await refused(host)
        await trio.sleep(60)
        assert {"nvidia", NVIDIA} <= set(one.journal.ledger.troubles)
        assert one.plan.owners[NVIDIA].kind == "degraded"
        assert not host.show()["hung"]
        host.kernel.lift("hang-unbind", NVIDIA)
        await trio.sleep(60)
        await one.settle()
        assert not host.show()["hung"]
        assert not one.journal.ledger.troubles
        assert state(host) == before
        stays_clean(one)


async def test_an_idle_nvidia_card_waits_until_its_module_is_free(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    await plugged(host)
    host.kernel.faults.cause("module-held", "nvidia", "2")
    host.kernel.pci.count_users()
    async with stable(host, tmp_path / "journal", card_policy(NVIDIA, when_idle="vfio")) as one:
        await trio.sleep(1)
        assert NVIDIA not in on_vfio(host)
        assert any("its module nvidia is in use 2 times" in r.reason for r in one.plan.refusals)
        assert not one.journal.ledger.troubles
        host.kernel.lift("module-held", "nvidia")
        host.kernel.pci.count_users()
        await trio.sleep(60)
        assert NVIDIA in on_vfio(host)


async def test_what_our_rule_set_on_a_card_that_stays_busy_goes_with_the_policy(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """Its driver won the race for it; with the override left behind its next driver would be VFIO."""
    host = simulated()
    host.kernel.modprobe(["nvidia"])
    host.kernel.faults.cause("module-held", "nvidia", "2")
    async with stable(host, tmp_path / "journal", card_policy(NVIDIA, when_idle="vfio")) as one:
        await plugged(host)
        await one.settle()
        assert host.show()["devices"][NVIDIA]["override"] == "vfio-pci"
        assert host.show()["devices"][NVIDIA]["driver"] == "nvidia"
        one.reconciler.apply(Settings())
        await trio.sleep(60)
        assert host.show()["devices"][NVIDIA]["override"] is None
        assert host.show()["devices"][NVIDIA]["driver"] == "nvidia"
        stays_clean(one)


async def test_a_card_that_our_rule_aimed_knows_the_module_of_its_driver(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """Its modalias alone may load another driver, or none."""
    host = simulated()
    host.kernel.modprobe(["nvidia"])
    async with stable(
        host, tmp_path / "journal", card_policy(NVIDIA, when_idle="vfio", leave="unbind")
    ) as one:
        await plugged(host)
        await one.settle()
        assert one.journal.ledger.devices[NVIDIA].module == "nvidia"
        assert host.kernel.modprobe(["-r", "nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia"]) == 0
        one.reconciler.apply(Settings())
        await trio.sleep(60)
        assert host.show()["devices"][NVIDIA]["driver"] == "nvidia"
        stays_clean(one)


async def test_nvidia_is_not_left_while_the_host_keeps_another_card_on_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("server")
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=["0000:41:00.0"]))
        message = await refused(host)
        assert "only when the whole module is unloaded" in message
        assert "0000:c1:00.0" in message
        await one.settle()
        assert state(host) == before


async def test_a_module_that_something_in_the_kernel_holds_refuses_the_start(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("lab")
    card = "0000:02:00.0"
    host.kernel.faults.cause("module-held", "bochs")
    host.kernel.pci.count_users()
    async with stable(host, tmp_path / "journal"):
        await host.hypervisor.define(domain("win11", hostdevs=[card], cores=1, threads=1))
        assert "something in the kernel holds its module bochs" in await refused(host)


async def test_a_home_driver_whose_module_was_unloaded_is_loaded_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    await plugged(host)
    before = state(host)
    async with stable(host, tmp_path / "journal", card_policy(NVIDIA, leave="unbind")) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[NVIDIA]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert host.kernel.modprobe(["-r", "nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia"]) == 0
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert state(host)["devices"] == before["devices"]
        stays_clean(one)


async def test_policy_names_another_driver_to_return_to(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    settings = card_policy("0000:01:00.2", driver="xhci_hcd")
    async with stable(host, tmp_path / "journal", settings) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert host.show()["devices"]["0000:01:00.2"]["driver"] == "xhci_hcd"
        stays_clean(one)


KINDS = ("stop", "terminate", "container", "screen", "unload")


async def arranged(kind: str) -> tuple[SimulatedHost, Settings, str]:
    """A host on which something is in the way, the policy that clears it, and the card."""
    host = simulated()
    match kind:
        case "stop":
            host.units.start("ollama.service", SERVICE)
            hold(host, GPU)
            return host, policy(holders="stop"), GPU
        case "terminate":
            hold(host, GPU)
            return host, policy(holders="terminate"), GPU
        case "container":
            await host.simulate(
                "contain", {"name": "comfy", "address": GPU, "pid": "77", "command": "python3"}
            )
            return host, policy(holders="stop"), GPU
        case "screen":
            host.units.start("display-manager.service", "/system.slice/display-manager.service")
            return host, card_policy(HOST_SCREEN, units=("display-manager.service",)), HOST_SCREEN
        case _:
            await plugged(host)
            return host, Settings(), NVIDIA


@pytest.mark.parametrize("action", ["start", "destroy"])
@pytest.mark.parametrize("kind", KINDS)
async def test_killed_at_any_line(
    memory_path: Path, kind: str, action: str, autojump_clock: trio.testing.MockClock
):
    """Afterwards the domain has its card, or everything is as before: also what was stopped and unloaded."""

    async def once(line: int) -> bool:
        host, settings, card = await arranged(kind)
        before = state(host)
        path = memory_path / f"{line}.journal"
        await host.hypervisor.define(domain("win11", hostdevs=[card]))
        if action == "destroy":
            async with stable(host, path, settings) as one:
                await host.hypervisor.start("win11")
                await one.settle()
        died = await life(host, path, line, does(host, action), settings)
        async with stable(host, path, settings) as one:
            await trio.sleep(40)
            await one.settle()
            if await host.hypervisor.running():
                assert card in on_vfio(host)
                await host.hypervisor.destroy("win11")
                await one.settle()
            assert state(host) == before
            stays_clean(one)
        return died

    await at_every_line(once, more_than=10, below=200)
