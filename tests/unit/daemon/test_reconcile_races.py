"""What comes at a bad moment: a full disk, another start, another policy, a card that is pulled out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import trio
import trio.testing
from tests.unit.daemon.stable import CARD, GPU, Stable, simulated, stable

from hostler.errors import HostFailed, TimedOut
from hostler.wire import HOOK_DEADLINE
from hostlerd.act.journal import Journal
from hostlerd.host import Host
from hostlerd.host.hypervisors import Hypervisors
from hostlerd.host.simulated.guests import domain, hostdev
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.hosts import DESKTOP
from hostlerd.host.simulated.pci import Pci
from hostlerd.host.simulated.systemd import SimulatedUnits
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.domains import Snapshot
from hostlerd.model.observed import Observed
from hostlerd.model.settings import DevicePolicy, DomainPolicy, Match, Settings
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio


def state(host: SimulatedHost) -> dict[str, Any]:
    """What must be as it was."""
    shown = host.show()
    return {"devices": shown["devices"], "slices": shown["slices"]}


def on_vfio(host: SimulatedHost) -> list[str]:
    return [address for address, device in host.show()["devices"].items() if device["on_vfio"]]


class FullJournal(Journal):
    """Has room for so many ends of steps more, and then for nothing until `full` is False."""

    full = True
    ends_left = 0

    def _append(self, line: dict[str, Any]) -> None:
        if self.full and ("end" in line or self.ends_left < 0):
            self.ends_left -= 1
            if self.ends_left < 0:
                raise HostFailed("the journal cannot be written", data={"object": self._path})
        super()._append(line)


def fill(one: Stable, ends_left: int) -> FullJournal:
    journal = FullJournal.__new__(FullJournal)
    journal.__dict__.update(one.journal.__dict__)
    journal.ends_left = ends_left
    one.journal = one.reconciler._shared.journal = journal
    return journal


@pytest.mark.parametrize("ends", [0, 1, 4, 9, 13])
async def test_no_room_for_the_end_of_a_step_leaves_no_object_untouchable(
    tmp_path: Path, ends: int, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        journal = fill(one, ends)
        with pytest.raises(HostFailed, match="cannot be written"):
            await host.hypervisor.start("win11")
        journal.full = False
        await trio.sleep(120)
        await one.settle()
        assert not journal.ledger.outstanding
        assert not journal.ledger.troubles
        assert state(host) == before
        await host.hypervisor.start("win11")
        await one.settle()
        assert on_vfio(host) == list(CARD)
    assert Journal(str(tmp_path / "journal"), "boot", journal._parse).ledger == journal.ledger


def xml_of(name: str, number: int) -> str:
    uuid = f"{number:08d}-1111-1111-1111-111111111111"
    return domain(name, cores=1, threads=1).replace("<memory", f"<uuid>{uuid}</uuid><memory", 1)


class SlowUnits(SimulatedUnits):
    """systemd, with something that happens before it sets what it is asked to set."""

    async def happens(self, unit: str) -> None:
        raise NotImplementedError

    async def set_allowed_cpus(self, unit: str, cpus: CpuSet) -> None:
        await self.happens(unit)
        await super().set_allowed_cpus(unit, cpus)


def with_units(host: SimulatedHost, kind: type[SimulatedUnits]) -> None:
    units = host.units
    host.units = kind(kernel=units.kernel, paths=units.paths, allowed=units.allowed)


async def test_start_upon_start_is_no_conflict(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    """Each pass finds one domain more that is about to start, and moves the slices once more."""
    host = simulated("server")
    settings = Settings(domains=DomainPolicy(cpus="dedicated"))
    prepared: list[int] = []
    async with stable(host, tmp_path / "journal", settings) as one, trio.open_nursery() as nursery:

        async def prepare(number: int) -> None:
            xml = xml_of(f"vm{number}", number)
            await one.reconciler.prepare(parse_domain(xml), xml)
            prepared.append(number)

        class AnotherStart(SlowUnits):
            started = 0

            async def happens(self, unit: str) -> None:
                if unit == "init.scope" and self.started < 9:
                    self.started += 1
                    nursery.start_soon(prepare, self.started)
                    await trio.sleep(0.1)

        with_units(host, AnotherStart)
        nursery.start_soon(prepare, 0)
        await trio.sleep(20)
        assert sorted(prepared) == list(range(10))
        assert not one.journal.ledger.troubles
        assert one.plan.converged


async def test_what_does_not_stay_as_it_is_put_keeps_nobody_waiting(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:

        class Undone(SimulatedUnits):
            async def set_allowed_cpus(self, unit: str, cpus: CpuSet) -> None:
                await super().set_allowed_cpus(unit, cpus)
                if unit == "user.slice":
                    self.allowed[unit] = frozenset({1})

        with_units(host, Undone)
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        began = trio.current_time()
        await host.hypervisor.start("win11")
        assert trio.current_time() - began < 5
        await one.settle()
        assert set(one.journal.ledger.troubles) == {"user.slice"}
        assert on_vfio(host) == list(CARD)


def failing(one: Stable, passes: set[int]) -> None:
    """From now on the passes with these numbers (the next is 1) cannot look at the host."""
    look, number = one.reconciler._shared.observe, 0

    async def observe(journal: Journal, snapshot: Snapshot) -> Observed:
        nonlocal number
        number += 1
        if number in passes:
            raise TimedOut("reading the host did not return within 5 s")
        return await look(journal, snapshot)

    one.reconciler._shared.observe = observe


async def test_a_release_waits_no_longer_for_a_pass_that_failed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        for failed in (1, 2):
            failing(one, {failed})
            began = trio.current_time()
            await host.hypervisor.destroy("win11")
            assert trio.current_time() - began < 5
            assert state(host) == before
            await host.hypervisor.start("win11")
            await one.settle()


async def test_a_start_does_not_wait_for_the_pause_after_failures(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        failing(one, {1, 2, 3, 4, 5})
        one.reconciler.look_at_host.kick()
        await trio.sleep(19)  # 1, 2, 5 and 10 s; the pause now is one of 30
        began = trio.current_time()
        await host.hypervisor.start("win11")
        assert trio.current_time() - began < 5


async def test_the_answer_to_a_start_comes_while_its_hook_still_waits(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        for address in CARD:
            host.kernel.faults.cause("slow-write", f"/sys/bus/pci/devices/{address}/driver_override", "9")
        xml = xml_of("win11", 1).replace("<devices>", f"<devices>{hostdev(GPU)}")
        began = trio.current_time()
        with pytest.raises(TimedOut, match="could not be prepared within"):
            await one.reconciler.prepare(parse_domain(xml), xml)
        assert trio.current_time() - began < HOOK_DEADLINE - 1


def idle(when_idle: Literal["host", "vfio", "none"]) -> Settings:
    return Settings(
        devices=(DevicePolicy(name="card", match=Match(address=GPU), when_idle=when_idle),),
    )


@pytest.mark.parametrize(
    ("first", "second"), [("none", "host"), ("none", "vfio"), ("vfio", "none"), ("host", "none")]
)
async def test_policy_changes_while_a_domain_has_the_card(
    tmp_path: Path,
    first: Literal["host", "vfio", "none"],
    second: Literal["host", "vfio", "none"],
    autojump_clock: trio.testing.MockClock,
):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal", idle(first)) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        one.reconciler.apply(idle(second))
        await one.settle()
        assert on_vfio(host) == list(CARD)
        await host.hypervisor.destroy("win11")
        await one.settle()
        one.reconciler.apply(Settings())
        await one.settle()
        assert state(host) == before
        assert not one.journal.ledger.devices


async def test_an_idle_card_stays_with_the_host_where_vfio_cannot_be_loaded(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    drivers = tuple(name for name in DESKTOP.drivers if name != "vfio-pci")
    spec = replace(DESKTOP, drivers=drivers, not_loaded=())
    host = SimulatedHost(spec, parse=parse_domain, limit=60.0)
    before = state(host)
    async with stable(host, tmp_path / "journal", idle("vfio")) as one:
        assert state(host) == before
        assert set(one.journal.ledger.troubles) == {"vfio-pci"}
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        with pytest.raises(HostFailed, match="the module vfio-pci is degraded"):
            await host.hypervisor.start("win11")
        await one.settle()
        assert state(host) == before


async def test_nothing_is_unbound_while_modprobe_hangs(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        host.kernel.faults.cause("slow-write", "/sbin/modprobe", "99")
        for words in ("does not return", "the module vfio-pci is degraded"):
            with pytest.raises(HostFailed, match=words):
                await host.hypervisor.start("win11")
            await one.settle()
            assert state(host) == before
        assert not [path for path, _ in host.kernel.log if path.endswith("unbind")]
        host.kernel.faults.active.clear()
        await one.reconciler.retry("vfio-pci")
        await host.hypervisor.start("win11")
        assert on_vfio(host) == list(CARD)


@pytest.mark.parametrize("writes", range(1, 14))
async def test_an_idle_card_may_go_at_any_step(
    tmp_path: Path, writes: int, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        host.kernel.faults.cause("vanish-after-writes", GPU, str(writes))
        one.reconciler.apply(idle("vfio"))
        await one.settle()
        assert GPU not in host.kernel.pci.devices
        assert not one.journal.ledger.troubles
        assert not one.journal.ledger.devices


async def test_a_start_is_told_that_its_card_has_gone(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        host.kernel.faults.cause("vanish-after-writes", GPU, "4")
        with pytest.raises(HostFailed, match=r"0000:01:00\.\d is gone"):
            await host.hypervisor.start("win11")
        await one.settle()
        assert not one.journal.ledger.troubles
        assert not one.journal.ledger.devices


async def test_a_container_that_ends_meanwhile_is_no_trouble(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    scope = "libpod-1.scope"
    async with stable(host, tmp_path / "journal") as one:

        class Ends(SlowUnits):
            async def happens(self, unit: str) -> None:
                if unit == scope:
                    self.stop(scope)

        host.units.start(scope, f"/machine.slice/{scope}")
        with_units(host, Ends)
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert not one.journal.ledger.troubles
        assert scope not in one.journal.ledger.groups


NVME = "0000:02:00.0"


async def test_another_policy_takes_nothing_from_a_guest_before_libvirt_is_there(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """An idle card was attached by hand: no claim knows of it, and libvirt is away when the daemon starts again."""
    host = simulated()
    when_idle = Settings(devices=(DevicePolicy(name="x", match=Match(address=NVME), when_idle="vfio"),))
    before = state(host)
    async with stable(host, tmp_path / "journal", when_idle) as one:
        await host.hypervisor.define(domain("work"))
        await host.hypervisor.start("work")
        await host.hypervisor.attach("work", NVME)
        await one.settle()
        host.kernel.processes.start(
            pid=4242, command="qemu-system-x86_64", uid=64055, cgroup="/machine.slice", paths=["/dev/vfio/15"]
        )
        host.hypervisor.stop_libvirtd()
        await one.settle()
    async with stable(host, tmp_path / "journal") as one:
        await trio.sleep(60)
        assert on_vfio(host) == [NVME]
        assert one.plan.owners[NVME].who == "qemu-system-x86 (process 4242)"
        assert not one.journal.ledger.troubles
        await host.hypervisor.start_libvirtd()
        await one.settle()
        assert one.plan.owners[NVME].who == "work"
        host.kernel.processes.end(4242)
        await host.hypervisor.destroy("work")
        await one.settle()
        assert state(host)["devices"] == before["devices"]


async def test_a_card_is_not_taken_from_above_its_virtual_functions(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("lab")
    card = "0000:05:00.0"
    host.kernel.write(f"/sys/bus/pci/devices/{card}/sriov_numvfs", "2")
    settings = Settings(devices=(DevicePolicy(name="x", match=Match(address=card), when_idle="vfio"),))
    async with stable(host, tmp_path / "journal", settings) as one:
        for name, address in (("a", "0000:05:00.1"), ("b", card)):
            await host.hypervisor.define(domain(name, hostdevs=[address], cores=1, threads=1))
        await host.hypervisor.start("a")
        await one.settle()
        writes = len(host.kernel.log)
        with pytest.raises(
            HostFailed, match="2 virtual functions, which would go with it; domain a has some"
        ):
            await host.hypervisor.start("b")
        await one.settle()
        assert not [path for path, _ in host.kernel.log[writes:] if "pci" in path]
        assert on_vfio(host) == ["0000:05:00.1"]
        assert not one.journal.ledger.troubles


@pytest.fixture
def qemu_in_proc(monkeypatch: pytest.MonkeyPatch) -> Callable[[SimulatedHost], None]:
    """QEMU has the groups of its guest open, as /proc shows of the real one."""
    open_group, close_groups = Pci.open_group, Pci.close_groups

    def show(host: SimulatedHost) -> None:
        def opened(pci: Pci, group: int, owner: str) -> None:
            open_group(pci, group, owner)
            host.kernel.processes.start(
                pid=9000 + group,
                command="qemu-system-x86_64",
                uid=64055,
                cgroup="/",
                paths=[f"/dev/vfio/{group}"],
            )

        def closed(pci: Pci, owner: str, keep: Iterable[int] = ()) -> None:
            kept = set(keep)
            for group in [g for g, who in pci.owners.items() if who == owner and g not in kept]:
                host.kernel.processes.end(9000 + group)
            close_groups(pci, owner, kept)

        monkeypatch.setattr(Pci, "open_group", opened)
        monkeypatch.setattr(Pci, "close_groups", closed)

    return show


async def test_what_libvirt_does_not_list_but_a_guest_has_stays(
    tmp_path: Path,
    qemu_in_proc: Callable[[SimulatedHost], None],
    autojump_clock: trio.testing.MockClock,
):
    """The policy names another libvirt than the one that runs the domain."""
    host = simulated()
    qemu_in_proc(host)
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        one.reconciler._shared.host = replace_hypervisor(host)
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        one.reconciler.look_at_domains.kick()
        await trio.sleep(100)
        assert not one.journal.ledger.claims
        assert on_vfio(host) == list(CARD)
        assert not one.journal.ledger.troubles
        assert one.plan.owners[GPU].who == "qemu-system-x86 (process 9014)"
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert state(host)["devices"] == before["devices"]


def replace_hypervisor(host: SimulatedHost) -> Host:
    class Other:
        hypervisor = Hypervisors(())

        def __getattr__(self, name: str) -> Any:
            return getattr(host, name)

    return cast(Host, Other())


async def test_a_card_that_libvirt_is_just_giving_to_a_guest_stays(
    tmp_path: Path,
    qemu_in_proc: Callable[[SimulatedHost], None],
    autojump_clock: trio.testing.MockClock,
):
    """attach-device runs no hook: the events of its own binding wake us before libvirt lists the device."""
    host = simulated()
    qemu_in_proc(host)
    settings = Settings(devices=(DevicePolicy(name="x", match=Match(address=NVME), when_idle="none"),))
    async with stable(host, tmp_path / "journal", settings) as one:
        await host.hypervisor.define(domain("work"))
        await host.hypervisor.start("work")
        await one.settle()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.hypervisor.attach, "work", NVME)
            for _ in range(40):
                one.reconciler.look_at_host.kick()
                await trio.lowlevel.checkpoint()
        await one.settle()
        assert on_vfio(host) == [NVME]
        assert not host.show()["devices"][NVME]["stuck"]
        await host.hypervisor.destroy("work")
        await one.settle()
        assert host.show()["devices"][NVME]["driver"] is None


async def test_a_card_goes_back_when_what_has_it_open_lets_go(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal", idle("vfio")) as one:
        host.kernel.processes.start(pid=77, command="qemu", uid=0, cgroup="/", paths=["/dev/vfio/14"])
        one.reconciler.apply(Settings())
        await one.settle()
        assert one.plan.owners[GPU].who == "qemu (process 77)"
        host.kernel.processes.end(77)
        await trio.sleep(5)  # nothing tells
        assert state(host) == before


async def test_a_crowd_of_events_does_not_use_up_the_looks_at_an_open_card(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """A QEMU that was killed needs a moment to close its files, and its end is a dozen events."""
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal", idle("vfio")) as one:
        host.kernel.processes.start(pid=77, command="qemu", uid=0, cgroup="/", paths=["/dev/vfio/14"])
        one.reconciler.apply(Settings())
        for _ in range(12):
            one.reconciler.look_at_host.kick()
            await one.settle()
        host.kernel.processes.end(77)
        await trio.sleep(5)
        assert state(host) == before
