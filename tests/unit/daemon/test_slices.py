"""Slices from start to stop, through the whole loop on the simulated host: made, given, taken back, refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.daemon.stable import Stable, simulated, stable

from hostler.errors import HostFailed
from hostlerd import offline
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.hosts import SLICES
from hostlerd.model.settings import DevicePolicy, Match, Settings, SlicePolicy
from hostlerd.observe.domain_xml import parse_domain

PF, VF1, VF2, VF3 = "0000:05:00.0", "0000:05:00.1", "0000:05:00.2", "0000:05:00.3"
IGPU = "0000:00:02.0"
CARD, VGPU1, VGPU2 = "0000:41:00.0", "0000:41:00.4", "0000:41:00.5"
A, B, C = (f"{n:08d}-aaaa-4aaa-8aaa-aaaaaaaaaaaa" for n in (1, 2, 3))
AUTOPROBE = f"/sys/bus/pci/devices/{PF}/sriov_drivers_autoprobe"


def drive(vfs: int = 2, *, keep: bool = False) -> Settings:
    policy = DevicePolicy(name="drive", match=Match(address=PF), vfs=vfs, keep_vfs=keep)
    card = DevicePolicy(name="card", match=Match(address=CARD), vfs=4)
    return Settings(devices=(policy, card))


def state(host: SimulatedHost) -> dict[str, Any]:
    """All that slices change, byte for byte; what the kernel counts for itself (names of nodes) is not in it."""
    shown = host.show()
    return {
        **{key: shown[key] for key in ("devices", "mdevs", "vfs", "vgpus")},
        "autoprobe": host.files.read(AUTOPROBE),
        "types": {
            path: text
            for path, text in host.files.flat("/sys/devices").items()
            if path.endswith(("available_instances", "creatable_vgpu_types"))
        },
    }


async def define(host: SimulatedHost, name: str, **more: Any) -> None:
    await host.hypervisor.define(domain(name, cores=1, threads=1, **more))


def gone(one: Stable) -> None:
    ledger = one.journal.ledger
    assert (ledger.vfs, ledger.mdevs, ledger.vgpus, ledger.devices, ledger.troubles) == ({}, {}, {}, {}, {})


# Virtual functions


async def test_a_vf_is_made_given_and_taken_away(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal", drive()) as one:
        await define(host, "a", hostdevs=[VF2], managed=False)
        await host.hypervisor.start("a")
        await one.settle()
        shown = host.show()
        assert shown["vfs"][PF] == "2"
        assert shown["devices"][VF2]["on_vfio"]
        assert shown["devices"][VF1]["driver"] is None
        assert shown["devices"][PF]["driver"] == "nvme"
        assert one.plan.converged
        assert one.plan.owners[VF2].who == "a"
        await host.hypervisor.destroy("a")
        await one.settle()
        assert state(host) == before
        gone(one)


async def test_vfs_stay_until_the_last_of_their_domains_has_gone(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal", drive()) as one:
        for name, address in (("a", VF1), ("b", VF2), ("c", PF), ("d", VF1), ("e", VF3)):
            await define(host, name, hostdevs=[address])
        await host.hypervisor.start("a")
        await host.hypervisor.start("b")
        with pytest.raises(HostFailed, match="2 virtual functions, which would go with it"):
            await host.hypervisor.start("c")
        with pytest.raises(HostFailed, match=f"{VF1} belongs to domain a"):
            await host.hypervisor.start("d")
        with pytest.raises(HostFailed, match=r"cannot add to them.*set vfs = 3"):
            await host.hypervisor.start("e")
        await host.hypervisor.destroy("a")
        await one.settle()
        assert host.show()["vfs"][PF] == "2"
        await host.hypervisor.destroy("b")
        await one.settle()
        assert state(host) == before
        await host.hypervisor.start("c")
        await one.settle()
        await host.hypervisor.destroy("c")
        await one.settle()
        assert state(host) == before
        gone(one)


@pytest.mark.parametrize(
    ("settings", "address", "words"),
    [
        (Settings(), VF1, r"could have it, as number 1 of at most 4.*add vfs = 1"),
        (drive(2), VF3, r"policy makes 2 virtual functions.*this one is number 3"),
        (drive(5), VF3, r"policy makes 5 virtual functions of 0000:05:00\.0, which can have 4"),
        (drive(2), "0000:05:00.7", "no such PCI function"),
    ],
)
async def test_a_vf_that_nobody_can_make(
    tmp_path: Path, settings: Settings, address: str, words: str, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    before, writes = state(host), len(host.kernel.log)
    async with stable(host, tmp_path / "journal", settings) as one:
        await define(host, "a", hostdevs=[address])
        with pytest.raises(HostFailed, match=words):
            await host.hypervisor.start("a")
        await one.settle()
        assert state(host) == before
        assert not [path for path, _ in host.kernel.log[writes:] if "pci" in path]


async def test_metadata_alone_makes_as_many_vfs_as_it_takes(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await define(host, "a", hostdevs=[VF2], slices=[f"vf='{VF2}' parent='{PF}'"])
        await host.hypervisor.start("a")
        assert host.show()["vfs"][PF] == "2"
        await host.hypervisor.destroy("a")
        await one.settle()
        assert state(host) == before


async def test_vfs_of_somebody_else_stay(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated("slices")
    host.kernel.write(AUTOPROBE, "0")
    host.kernel.write(f"/sys/bus/pci/devices/{PF}/sriov_numvfs", "2")
    before = state(host)
    async with stable(host, tmp_path / "journal", drive()) as one:
        await define(host, "a", hostdevs=[VF1])
        await host.hypervisor.start("a")
        await host.hypervisor.destroy("a")
        await one.settle()
        assert state(host) == before
        gone(one)


async def test_a_vf_that_a_driver_has_keeps_all_of_them(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal", drive()) as one:
        await define(host, "a", hostdevs=[VF1])
        await host.hypervisor.start("a")
        host.kernel.write(f"/sys/bus/pci/devices/{VF2}/driver_override", "nvme")
        host.kernel.write("/sys/bus/pci/drivers_probe", VF2)
        await host.hypervisor.destroy("a")
        await one.settle()
        assert host.show()["vfs"][PF] == "2"
        assert host.show()["devices"][VF2]["driver"] == "nvme"
        assert not one.journal.ledger.troubles
        host.kernel.write("/sys/bus/pci/drivers/nvme/unbind", VF2)
        await one.settle()
        assert state(host) == before
        gone(one)


async def test_vfs_that_policy_keeps(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal", drive(3, keep=True)) as one:
        assert host.show()["vfs"][PF] == "3"
        await define(host, "a", hostdevs=[VF3])
        await host.hypervisor.start("a")
        await host.hypervisor.destroy("a")
        await one.settle()
        assert host.show()["vfs"][PF] == "3"
        assert one.plan.converged
        one.reconciler.apply(Settings())
        await one.settle()
        assert state(host) == before
        gone(one)


async def test_vfs_that_the_driver_refuses_to_make(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal", drive()) as one:
        host.kernel.faults.cause("write-fails", f"/sys/bus/pci/devices/{PF}/sriov_numvfs", "ENOSPC")
        await define(host, "a", hostdevs=[VF1])
        with pytest.raises(HostFailed, match=r"2 virtual functions of 0000:05:00\.0 cannot be made"):
            await host.hypervisor.start("a")
        await one.settle()
        assert state(host) == before
        gone(one)


async def test_who_has_a_vf_open_keeps_it_though_libvirt_does_not_say_so(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal", drive(2, keep=True)) as one:
        host.kernel.write(f"/sys/bus/pci/devices/{VF1}/driver_override", "nvme")
        host.kernel.write("/sys/bus/pci/drivers_probe", VF1)
        one.reconciler.apply(Settings())
        await one.settle()
        assert host.show()["vfs"][PF] == "2"
        host.kernel.write("/sys/bus/pci/drivers/nvme/unbind", VF1)
        await one.settle()
        assert state(host) == before


# Mediated devices


def spec(uuid: str, type_: str = "mbochs-small", **more: str) -> str:
    return " ".join(f"{k}='{v}'" for k, v in {"uuid": uuid, "type": type_, **more}.items())


async def test_a_mediated_device_is_made_given_and_taken_away(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await define(host, "a", mdevs=[A], slices=[spec(A)])
        await host.hypervisor.start("a")
        await one.settle()
        assert host.show()["mdevs"] == {A: "mbochs-small"}
        assert one.plan.owners[A].who == "a"
        assert one.plan.converged
        await host.hypervisor.destroy("a")
        await one.settle()
        assert state(host) == before
        gone(one)


@pytest.mark.parametrize(
    "policy",
    [
        SlicePolicy(name="x", type="mbochs-small", uuid=A),
        SlicePolicy(name="x", type="small", uuid=A, parent="mbochs", domain="a"),
        SlicePolicy(name="x", type="mbochs-small", domain="a"),
    ],
)
async def test_a_mediated_device_by_policy(
    tmp_path: Path, policy: SlicePolicy, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal", Settings(slices=(policy,))) as one:
        await define(host, "a", mdevs=[A])
        await host.hypervisor.start("a")
        assert host.show()["mdevs"] == {A: "mbochs-small"}
        await host.hypervisor.destroy("a")
        await one.settle()
        assert state(host) == before


async def test_policy_keeps_a_slice_for_its_domain(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated("slices")
    policy = SlicePolicy(name="desk", type="mbochs-small", uuid=A, domain="a")
    async with stable(host, tmp_path / "journal", Settings(slices=(policy,))):
        await define(host, "b", mdevs=[A])
        with pytest.raises(HostFailed, match=r"policy 'desk' keeps .* for domain a"):
            await host.hypervisor.start("b")


@pytest.mark.parametrize(("start", "stays"), [("auto", True), ("manual", False)])
async def test_mdevctl_definitions_are_honoured(
    tmp_path: Path, start: str, stays: bool, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    before = state(host)
    host.files.put(
        f"/etc/mdevctl.d/mbochs/{A}",
        f'{{"mdev_type": "mbochs-small", "start": "{start}", "attrs": [{{"vendor/memory": "3"}}]}}',
    )
    async with stable(host, tmp_path / "journal") as one:
        await define(host, "a", mdevs=[A])
        await host.hypervisor.start("a")
        assert host.files.read(f"/sys/bus/mdev/devices/{A}/vendor/memory") == "3\n"
        await host.hypervisor.destroy("a")
        await one.settle()
        assert (host.show()["mdevs"] == {A: "mbochs-small"}) is stays
        assert stays or state(host) == before
        gone(one)


async def test_a_persistent_one_and_a_foreign_one_stay(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    create = "/sys/class/mdev_bus/mbochs/mdev_supported_types/mbochs-large/create"
    host.kernel.write(create, B)
    async with stable(host, tmp_path / "journal") as one:
        await define(host, "a", mdevs=[A, B], slices=[spec(A, persistent="yes")])
        await host.hypervisor.start("a")
        await host.hypervisor.destroy("a")
        await one.settle()
        assert host.show()["mdevs"] == {A: "mbochs-small", B: "mbochs-large"}
        gone(one)


async def test_a_slice_has_one_owner(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated("slices")
    async with stable(host, tmp_path / "journal"):
        for name in ("a", "b"):
            await define(host, name, mdevs=[A], slices=[spec(A)])
        await host.hypervisor.start("a")
        with pytest.raises(HostFailed, match=f"the mediated device {A} belongs to domain a; stop a first"):
            await host.hypervisor.start("b")
        assert host.show()["domains"]["a"]["state"] == "running"


async def test_when_nothing_is_left_the_owners_are_named(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    async with stable(host, tmp_path / "journal") as one:
        for name, uuid, kind in (("a", A, "i915-GVTg_V5_8"), ("b", B, "i915-GVTg_V5_4")):
            await define(host, name, mdevs=[uuid], slices=[spec(uuid, kind)])
        await host.hypervisor.start("a")
        with pytest.raises(
            HostFailed,
            match=r"no instance of i915-GVTg_V5_4 is left on 0000:00:02.0: a has i915-GVTg_V5_8; .*"
            r"i915-GVTg_V5_8 on 0000:00:02.0 \(1 left\)",
        ):
            await host.hypervisor.start("b")
        await host.hypervisor.destroy("a")
        await host.hypervisor.start("b")
        await one.settle()
        assert host.show()["mdevs"] == {B: "i915-GVTg_V5_4"}


@pytest.mark.parametrize(
    ("slices", "words"),
    [
        ([], r"there is none, and nothing says of which type .*mbochs-small on mbochs \(64 left\)"),
        ([spec(A, "nvidia-63")], "this host has no type nvidia-63"),
        ([spec(A, parent="0000:00:02.0")], "0000:00:02.0 has no type mbochs-small"),
        ([f"uuid='{A}'"], "it has a uuid and no type"),
        ([spec(A, parent="1:2:3")], "not a PCI address"),
        (["type='x'"], "it has either a uuid or a vf"),
    ],
)
async def test_what_is_missing_is_said(
    tmp_path: Path, slices: list[str], words: str, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await define(host, "a", mdevs=[A], slices=slices)
        with pytest.raises(HostFailed, match=words):
            await host.hypervisor.start("a")
        await one.settle()
        assert state(host) == before


async def test_a_start_that_fails_late_takes_everything_away_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal", drive()) as one:
        await define(host, "a", mdevs=[A], hostdevs=[VF1], slices=[spec(A)])
        host.kernel.faults.cause("start-fails", "a")
        with pytest.raises(HostFailed, match="Could not open the firmware"):
            await host.hypervisor.start("a")
        await one.settle()
        assert state(host) == before
        gone(one)


async def test_a_refusal_of_one_thing_makes_none_of_the_others(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    async with stable(host, tmp_path / "journal", drive()) as one:
        await define(host, "a", mdevs=[A, B], hostdevs=[VF1], slices=[spec(A)])
        with pytest.raises(HostFailed, match=B):
            await host.hypervisor.start("a")
        await one.settle()
        assert not [path for path, _ in host.kernel.log if path.endswith(("create", "numvfs", "autoprobe"))]


async def test_a_card_that_is_cut_cannot_be_given_as_a_whole(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await define(host, "a", mdevs=[A], slices=[spec(A, "i915-GVTg_V5_8")])
        await define(host, "b", hostdevs=[IGPU])
        await host.hypervisor.start("a")
        with pytest.raises(
            HostFailed, match=r"mediated devices, which would go with it: a has i915-GVTg_V5_8"
        ):
            await host.hypervisor.start("b")
        await host.hypervisor.destroy("a")
        await host.hypervisor.start("b")
        with pytest.raises(HostFailed, match=r"this host has no type i915-GVTg_V5_8"):
            await host.hypervisor.start("a")
        await host.hypervisor.destroy("b")
        await one.settle()
        assert state(host) == before
        gone(one)


async def test_what_a_process_has_open_is_not_removed(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await define(host, "a", mdevs=[A], slices=[spec(A)])
        await host.hypervisor.start("a")
        group = host.kernel.mdevs.devices[A].group
        host.kernel.processes.start(pid=77, command="qemu", uid=0, cgroup="/", paths=[f"/dev/vfio/{group}"])
        await host.hypervisor.destroy("a")
        await one.settle()
        assert host.show()["mdevs"] == {A: "mbochs-small"}
        assert one.plan.owners[A].who == "qemu (process 77)"
        assert not one.journal.ledger.troubles
        host.kernel.processes.end(77)
        await trio.sleep(40)
        assert state(host) == before
        gone(one)


async def test_a_removal_that_does_not_return_costs_that_slice_alone(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    async with stable(host, tmp_path / "journal") as one:
        for name, uuid in (("a", A), ("b", B)):
            await define(host, name, mdevs=[uuid], slices=[spec(uuid)])
        await host.hypervisor.start("a")
        # Open, and nothing in /proc shows it.
        host.kernel.pci.owners[host.kernel.mdevs.devices[A].group] = "somebody"
        await host.hypervisor.destroy("a")
        await trio.sleep(60)
        assert set(one.journal.ledger.troubles) == {A}
        await host.hypervisor.start("b")
        with pytest.raises(HostFailed, match=f"the mediated device {A} is degraded"):
            await host.hypervisor.start("a")
        host.kernel.pci.close_groups("somebody")
        await one.reconciler.retry(A)
        await one.settle()
        await host.hypervisor.destroy("b")
        await one.settle()
        assert host.show()["mdevs"] == {}
        gone(one)


# NVIDIA's vGPUs


def vgpu(vf: str, type_: str = "1149") -> str:
    return f"vf='{vf}' type='{type_}'"


async def test_nvidias_vfs_stay_on_nvidia(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal", drive()) as one:
        await define(host, "a", hostdevs=[VGPU1], managed=False, slices=[vgpu(VGPU1)])
        await define(host, "b", hostdevs=[VGPU2], managed=False, slices=[vgpu(VGPU2, "L40S-24Q")])
        await host.hypervisor.start("a")
        await host.hypervisor.start("b")
        await one.settle()
        shown = host.show()
        assert shown["vfs"][CARD] == "4"
        assert {shown["devices"][vf]["driver"] for vf in (VGPU1, VGPU2)} == {"nvidia"}
        assert shown["vgpus"][VGPU1] == shown["vgpus"][VGPU2] == 1149
        assert not [path for path, _ in host.kernel.log if path.endswith("driver_override")]
        for name in ("a", "b"):
            await host.hypervisor.destroy(name)
        await one.settle()
        assert state(host) == before
        gone(one)


@pytest.mark.parametrize(
    ("managed", "slices", "words"),
    [
        (True, [vgpu(VGPU2)], r"must stay on it, and with managed='yes' libvirt takes it away"),
        (False, [], r"nothing says of which type it should be.*1149 \(NVIDIA L40S-24Q\)"),
        (False, [vgpu(VGPU2, "1145")], f"cannot be given the vGPU type 1145: a has type 1149 on {VGPU1}"),
        (False, [vgpu(VGPU2, "L40S-99Q")], "cannot be given the vGPU type L40S-99Q"),
    ],
)
async def test_a_vgpu_that_cannot_be(
    tmp_path: Path, managed: bool, slices: list[str], words: str, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    async with stable(host, tmp_path / "journal", drive()) as one:
        await define(host, "a", hostdevs=[VGPU1], managed=False, slices=[vgpu(VGPU1)])
        await host.hypervisor.start("a")
        before = state(host)
        await define(host, "b", hostdevs=[VGPU2], managed=managed, slices=slices)
        with pytest.raises(HostFailed, match=words):
            await host.hypervisor.start("b")
        await one.settle()
        assert state(host) == before


async def test_an_old_libvirt_cannot_give_a_vgpu(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = SimulatedHost(replace(SLICES, libvirt=9_000_000), parse=parse_domain, limit=60.0)
    before = state(host)
    async with stable(host, tmp_path / "journal", drive()) as one:
        await define(host, "a", hostdevs=[VGPU1], managed=False, slices=[vgpu(VGPU1)])
        with pytest.raises(HostFailed, match=r"this libvirt \(9\.0\) takes a device from vfio-pci alone"):
            await host.hypervisor.start("a")
        await one.settle()
        assert state(host) == before


async def test_another_type_for_the_next_domain(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated("slices")
    before = state(host)
    async with stable(host, tmp_path / "journal", drive()) as one:
        await define(host, "a", hostdevs=[VGPU1], managed=False, slices=[vgpu(VGPU1)])
        await define(host, "b", hostdevs=[VGPU1], managed=False, slices=[vgpu(VGPU1, "1145")])
        for name, number in (("a", 1149), ("b", 1145)):
            await host.hypervisor.start(name)
            assert host.show()["vgpus"][VGPU1] == number
            await host.hypervisor.destroy(name)
        await one.settle()
        assert state(host) == before


async def test_a_vgpu_of_somebody_else_is_used_and_left(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("slices")
    host.kernel.write(f"/sys/bus/pci/devices/{CARD}/sriov_numvfs", "4")
    host.kernel.write(f"/sys/bus/pci/devices/{VGPU1}/nvidia/current_vgpu_type", "1148")
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await define(host, "a", hostdevs=[VGPU1], managed=False)
        await define(host, "b", hostdevs=[VGPU1], managed=False, slices=[vgpu(VGPU1)])
        await host.hypervisor.start("a")
        await host.hypervisor.destroy("a")
        with pytest.raises(HostFailed, match="has a vGPU of type 1148, which somebody else gave it"):
            await host.hypervisor.start("b")
        await one.settle()
        assert state(host) == before
        gone(one)


# Recorded hosts


def test_a_recorded_host_is_planned_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    host = simulated("slices")
    host.kernel.write("/sys/class/mdev_bus/mbochs/mdev_supported_types/mbochs-large/create", B)
    host.files.save(str(tmp_path / "root"))
    (tmp_path / "a.xml").write_text(domain("a", hostdevs=[VF2], mdevs=[A], slices=[spec(A)]))
    (tmp_path / "policy.toml").write_text(f'[[device]]\nmatch = {{ address = "{PF}" }}\nvfs = 2\n')
    words = ["--root", str(tmp_path / "root")]
    policy = ["--xml", str(tmp_path / "a.xml"), "--policy", str(tmp_path / "policy.toml")]
    assert offline.main(["plan", *words, *policy]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    of_slices = [s for s in steps if s["kind"] in ("attribute", "virtual-functions", "mdev")]
    assert [(s["kind"], s["object"], s["to"]) for s in of_slices][:3] == [
        ("attribute", AUTOPROBE, "0"),
        ("virtual-functions", PF, "2"),
        ("mdev", A, "mbochs-small on mbochs"),
    ]
    assert offline.main(["devices", *words]) == 0
    found = {row["address"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["mbochs"]["slices"]["instances"][0]["uuid"] == B
    assert found[PF]["sriov"] == {"total": 4, "count": 0, "vfs": []}
