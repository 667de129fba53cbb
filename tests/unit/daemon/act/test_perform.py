"""Each kind of step on the simulated kernel: done and read back, refused with the reason, never believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from hostler.errors import HostFailed, Wedged
from hostlerd.act.journal import Journal
from hostlerd.act.perform import perform
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.ledger import DeviceRecord, GroupRecord
from hostlerd.model.plan import AllowCpus, LoadModule, Override, Probe, Step, Unbind, UnloadModule, WriteRule
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio

GPU = "0000:01:00.0"
OVERRIDE = f"/sys/bus/pci/devices/{GPU}/driver_override"
RECORD = DeviceRecord(address=GPU, driver="amdgpu", override=None)
MODULE = LoadModule(object="vfio-pci", before=None, after="loaded", why="")
AIM = Override(object=GPU, before=None, after="vfio-pci", why="", record=RECORD)
UNBIND = Unbind(object=GPU, before="amdgpu", after=None, why="")
PROBE = Probe(object=GPU, before=None, after="vfio-pci", why="", to_vfio=True)


@pytest.fixture
def host() -> SimulatedHost:
    return SimulatedHost("desktop", parse=parse_domain)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "journal"), "boot", parse_domain)


async def do(host: SimulatedHost, journal: Journal, *steps: Step) -> None:
    for step in steps:
        await perform(host, journal, step)


def driver(host: SimulatedHost) -> str | None:
    found: str | None = host.show()["devices"][GPU]["driver"]
    return found


async def test_a_handoff_step_by_step(host: SimulatedHost, journal: Journal):
    await do(host, journal, MODULE, AIM)
    assert host.files.read(OVERRIDE) == "vfio-pci\n"
    assert journal.ledger.devices == {GPU: RECORD}
    await do(host, journal, UNBIND)
    assert driver(host) is None
    await do(host, journal, PROBE)
    assert driver(host) == "vfio-pci"
    assert not journal.ledger.outstanding


async def test_clearing_an_override_is_read_back_as_none(host: SimulatedHost, journal: Journal):
    await do(host, journal, AIM, replace(AIM, before="vfio-pci", after=None, record=None))
    assert host.files.read(OVERRIDE) == "(null)\n"


async def test_a_probe_that_binds_nothing_is_a_failure_although_the_write_succeeds(
    host: SimulatedHost, journal: Journal
):
    await do(host, journal, MODULE, AIM, UNBIND)
    host.kernel.faults.cause("probe-fails", GPU, "vfio-pci")
    with pytest.raises(HostFailed, match="should be on vfio-pci after the probe and is on no driver"):
        await do(host, journal, PROBE)
    assert not journal.ledger.outstanding


@pytest.mark.parametrize("error", ["EBUSY", "EIO", "EPERM"])
async def test_what_the_kernel_says_is_told(host: SimulatedHost, journal: Journal, error: str):
    host.kernel.faults.cause("write-fails", "/sys/bus/pci/drivers/amdgpu/unbind", error)
    with pytest.raises(HostFailed, match="amdgpu does not let go of") as caught:
        await do(host, journal, UNBIND)
    assert caught.value.data["object"] == GPU
    assert driver(host) == "amdgpu"


async def test_a_write_that_hangs_stays_outstanding(
    host: SimulatedHost, journal: Journal, autojump_clock: trio.testing.MockClock
):
    host.kernel.faults.cause("hang-unbind", GPU)
    with pytest.raises(Wedged):
        await do(host, journal, UNBIND)
    assert journal.ledger.untouchable(GPU)


async def test_a_device_that_vanished_is_a_failure_in_words(host: SimulatedHost, journal: Journal):
    await host.simulate("unplug", {"address": GPU})
    for step in (AIM, PROBE):
        with pytest.raises(HostFailed, match="is gone"):
            await do(host, journal, step)
    await do(host, journal, UNBIND)  # nothing has it any more: nothing to write


async def test_an_unbind_is_only_from_the_driver_the_plan_saw(host: SimulatedHost, journal: Journal):
    await do(host, journal, replace(UNBIND, before="nouveau"))
    assert driver(host) == "amdgpu"


async def test_a_module_that_is_not_there(host: SimulatedHost, journal: Journal):
    with pytest.raises(HostFailed, match="cannot be loaded"):
        await do(host, journal, replace(MODULE, object="no-such-module"))


@pytest.mark.parametrize("room", [0, 1, 2])
async def test_without_room_for_all_its_lines_a_step_is_not_begun(
    host: SimulatedHost, journal: Journal, monkeypatch: pytest.MonkeyPatch, room: int
):
    append, written = journal._append, 0

    def full(line: dict[str, Any]) -> None:
        nonlocal written
        if "begin" in line:
            if written == room:
                raise HostFailed("no room", data={"object": journal._path})
            written += 1
        append(line)

    monkeypatch.setattr(journal, "_append", full)
    unload = UnloadModule(
        object="amdgpu",
        before="loaded",
        after=None,
        why="",
        modules=("amdgpu",),
        addresses=(GPU, "0000:01:00.1"),
    )
    with pytest.raises(HostFailed, match="no room"):
        await do(host, journal, unload)
    assert written == room
    assert not journal.ledger.outstanding
    assert driver(host) == "amdgpu"


def confine(cpus: set[int]) -> AllowCpus:
    return AllowCpus(
        object="system.slice",
        before=None,
        after="",
        why="",
        cpus=frozenset(cpus),
        path="/sys/fs/cgroup/system.slice",
        record=GroupRecord(unit="system.slice", allowed="", ours=("0-3",)),
    )


async def test_a_slice_is_confined_and_read_back(host: SimulatedHost, journal: Journal):
    await do(host, journal, confine({0, 1, 2, 3}))
    assert host.show()["slices"]["system.slice"] == "0-3"
    assert journal.ledger.groups


async def test_a_mask_the_kernel_does_not_grant_is_a_failure(host: SimulatedHost, journal: Journal):
    await do(host, journal, confine({0, 1, 2, 3}))
    host.kernel.faults.cause("unit-ignores", "system.slice")
    with pytest.raises(HostFailed, match="may still use CPUs 2-3 after being confined to 0-1"):
        await do(host, journal, confine({0, 1}))


async def test_a_control_group_without_a_cpuset_is_a_failure(host: SimulatedHost, journal: Journal):
    host.kernel.tree.put("/sys/elsewhere/bare.slice/cgroup.procs", "")
    with pytest.raises(HostFailed, match="has no cpuset"):
        await do(host, journal, replace(confine({0, 1}), path="/sys/elsewhere/bare.slice"))


async def test_what_systemd_refuses_is_told_in_its_words(host: SimulatedHost, journal: Journal):
    host.kernel.faults.cause("unit-refuses", "system.slice", "Unit is masked")
    with pytest.raises(HostFailed, match="Unit is masked"):
        await do(host, journal, confine({0, 1}))


async def test_residue_is_remembered(host: SimulatedHost, journal: Journal):
    await do(host, journal, replace(confine(set(range(16))), residue=True))
    assert journal.ledger.residue == ("system.slice",)


async def test_a_rule_is_written_and_removed(host: SimulatedHost, journal: Journal):
    path = "/run/udev/rules.d/70-hostler.rules"
    step = WriteRule(object=path, before=None, after="# x\n", why="", text="# x\n")
    await do(host, journal, step)
    assert host.files.read(path) == "# x\n"
    await do(host, journal, replace(step, text=None))
    assert not host.files.exists(path)
