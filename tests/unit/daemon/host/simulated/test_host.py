"""The bundle: built-in hosts, the state that outlives the process, and what the socket's `simulate` can do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio

from hostler.errors import BadInput, HostFailed, Unreachable, Wedged
from hostlerd.host import Host
from hostlerd.host.simulated.faults import KNOWN
from hostlerd.host.simulated.host import ACTIONS, SimulatedHost
from hostlerd.host.simulated.hosts import BUILT_IN

GPU, NVME = "0000:01:00.0", "0000:02:00.0"


@pytest.fixture
def host() -> SimulatedHost:
    return SimulatedHost("desktop")


@pytest.mark.parametrize("name", list(BUILT_IN))
def test_every_built_in_host_starts_and_can_be_sent(name: str) -> None:
    host: Host = SimulatedHost(name)
    assert isinstance(host, SimulatedHost)
    assert msgpack.unpackb(msgpack.packb(host.show())) == host.show()
    shown = host.show()["devices"]
    assert not [address for address, device in shown.items() if device["on_vfio"] or device["override"]]
    for address in shown:
        assert host.files.read(f"/sys/bus/pci/devices/{address}/class").startswith("0x")


def test_the_drivers_of_the_desktop(host: SimulatedHost) -> None:
    devices = host.show()["devices"]
    assert [devices[f"0000:01:00.{n}"]["driver"] for n in range(4)] == [
        "amdgpu",
        "snd_hda_intel",
        "xhci_hcd",
        "i2c-designware-pci",
    ]
    assert host.files.read("/sys/bus/pci/devices/0000:0b:00.0/boot_vga") == "1\n"


def test_an_unknown_host() -> None:
    with pytest.raises(BadInput, match="no simulated host"):
        SimulatedHost("toaster")


# --- the state file


async def test_a_host_goes_on_where_it_was(tmp_path: Path) -> None:
    file = str(tmp_path / "host.json")
    host = SimulatedHost("desktop", state_file=file)
    await host.simulate("define", {"name": "win11", "devices": NVME, "pins": "0=4"})
    await host.simulate("start", {"name": "win11"})
    await host.simulate("set-cpus", {"unit": "user.slice", "cpus": "0-1"})
    await host.simulate("hold", {"address": GPU, "pid": 7, "command": "x"})
    await host.simulate("fault", {"name": "hang-unbind", "object": GPU})
    again = SimulatedHost("desktop", state_file=file)
    forget = {"writes": 0}
    assert again.show() | forget == host.show() | forget
    assert again.files.dump() == host.files.dump()
    assert again.kernel.pci.owners == {15: "win11"}
    await again.simulate("stop", {"name": "win11"})
    assert again.show()["devices"][NVME]["driver"] == "nvme"


async def test_a_stuck_device_stays_stuck(tmp_path: Path, autojump_clock: object) -> None:
    file = str(tmp_path / "host.json")
    host = SimulatedHost("desktop", state_file=file)
    await host.simulate("fault", {"name": "hang-unbind", "object": GPU})
    with pytest.raises(Wedged):
        await host.writer.write(f"/sys/bus/pci/devices/{GPU}/driver/unbind", GPU, limit=1)
    again = SimulatedHost("desktop", state_file=file)
    assert again.show()["devices"][GPU]["stuck"]
    with pytest.raises(Wedged):
        await again.writer.write(f"/sys/bus/pci/devices/{GPU}/driver_override", "vfio-pci", limit=1)
    await again.simulate("lift", {"name": "hang-unbind", "object": GPU})
    device = again.show()["devices"][GPU]
    assert (device["stuck"], device["driver"], device["override"]) == (False, None, "vfio-pci")


async def test_a_start_that_was_cut_off_is_undone(tmp_path: Path, autojump_clock: object) -> None:
    file = str(tmp_path / "host.json")

    async def hook(_name: str, operation: str, _sub_operation: str, _xml: str) -> tuple[int, str]:
        if operation == "start":
            await trio.sleep_forever()
        return 0, ""

    host = SimulatedHost("desktop", state_file=file, hook=hook)
    before = host.show()
    await host.simulate("define", {"name": "win11", "devices": NVME})
    with trio.move_on_after(1):
        await host.simulate("start", {"name": "win11"})
    assert host.show()["devices"][NVME]["driver"] == "vfio-pci"
    again = SimulatedHost("desktop", state_file=file)
    assert again.show()["devices"] == before["devices"]
    assert again.show()["domains"]["win11"]["state"] == "shut off"


@pytest.mark.parametrize("text", ["", "{}", '{"form": 99}', "[1]"])
def test_a_state_file_that_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "host.json"
    file.write_text(text)
    with pytest.raises(BadInput, match="cannot be taken up"):
        SimulatedHost("desktop", state_file=str(file))


def test_a_state_file_of_another_host(tmp_path: Path) -> None:
    SimulatedHost("desktop", state_file=str(tmp_path / "host.json"))
    with pytest.raises(BadInput, match="of the host 'desktop'"):
        SimulatedHost("lab", state_file=str(tmp_path / "host.json"))


def test_death_after_a_write_keeps_the_write(tmp_path: Path) -> None:
    file = str(tmp_path / "host.json")
    program = f"""
from hostlerd.host.simulated.host import SimulatedHost
host = SimulatedHost("desktop", state_file={file!r})
host.kernel.faults.cause("die-after-writes", value="2")
folder = "/sys/bus/pci/devices/{GPU}"
host.kernel.write(folder + "/driver_override", "vfio-pci")
host.kernel.write(folder + "/driver/unbind", "{GPU}")
print("not reached")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")
    device = SimulatedHost("desktop", state_file=file).show()["devices"][GPU]
    assert (device["driver"], device["override"]) == (None, "vfio-pci")
    assert json.loads(Path(file).read_text())["kernel"]["faults"] == []


# --- simulate


async def test_actions(host: SimulatedHost, autojump_clock: object) -> None:
    async def act(action: str, **params: Any) -> dict[str, Any]:
        answer = await host.simulate(action, params)
        assert msgpack.unpackb(msgpack.packb(answer)) == answer
        return answer

    kicks = {"device": 0, "domain": 0}
    host.subscribe_devices(lambda: kicks.update(device=kicks["device"] + 1))
    host.subscribe_domains(lambda: kicks.update(domain=kicks["domain"] + 1))
    assert await act("define", name="a", cores="1", threads="1") == {"name": "a"}
    await act("start", name="a")
    await act("attach", name="a", address=NVME, managed="yes")
    await act("pin", name="a", vcpu="0", cpus="4")
    shown = (await act("show"))["domains"]["a"]
    assert (shown["devices"], shown["pins"], shown["state"]) == ([NVME], {"vcpupin 0": "4"}, "running")
    await act("detach", name="a", address=NVME)
    await act("stop", name="a")
    await act("undefine", name="a")
    assert await act("create", name="b") == {"name": "b"}
    await act("plug", card="second")
    await act("unplug", address="0000:04:00.0")
    await act("hold", address=GPU, pid="5", command="x")
    await act("let-go", pid="5")
    await act("fault", name="slow-write", object=GPU, value="1")
    assert await act("lift", name="slow-write", object=GPU) == {"lifted": True}
    await act("set-cpus", unit="user.slice", cpus="0-3")
    await act("daemon-reload")
    await act("start-unit", unit="docker-1.scope", path="/machine.slice/docker-1.scope")
    assert host.files.exists("/sys/fs/cgroup/machine.slice/docker-1.scope")
    await act("stop-unit", unit="docker-1.scope")
    await act("power-off", name="b")
    await act("stop-libvirtd")
    await act("start-libvirtd")
    await act("restart-libvirtd", seconds="1")
    await act("hang-libvirtd")
    await act("free-libvirtd")
    assert kicks["device"] > 5
    assert kicks["domain"] > 5


async def test_the_documented_actions_are_all_there() -> None:
    for action in ACTIONS:
        assert action in (SimulatedHost.simulate.__doc__ or "")


@pytest.mark.parametrize(
    ("action", "params", "words"),
    [
        ("fly", {}, "cannot 'fly'"),
        ("start", {}, "needs 'name'"),
        ("start", {"name": "none"}, "no domain"),
        ("plug", {"card": "none"}, "no card"),
        ("fault", {"name": "none"}, "no fault"),
        ("pin", {"name": "a", "vcpu": "x", "cpus": "1"}, "invalid literal"),
        ("set-cpus", {"unit": "user.slice", "cpus": "x"}, "not a CPU"),
        ("define", {"name": "a", "managed": "perhaps"}, "yes or no"),
        ("attach", {"name": "none", "address": GPU}, "no domain"),
        ("hold", {"address": "0000:99:00.0", "pid": 1, "command": "x"}, "0000:99:00.0"),
    ],
)
async def test_what_makes_no_sense(
    host: SimulatedHost, action: str, params: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        await host.simulate(action, params)


async def test_the_kernels_and_libvirts_refusals_are_told(host: SimulatedHost) -> None:
    with pytest.raises(HostFailed, match="No such device"):
        await host.simulate("unplug", {"address": "0000:99:00.0"})
    host.hypervisor.stop_libvirtd()
    with pytest.raises(Unreachable):
        await host.simulate("define", {"name": "a"})


def test_every_fault_is_asked_for_somewhere() -> None:
    folder = Path(sys.modules[SimulatedHost.__module__].__file__ or "").parent
    source = "".join(path.read_text() for path in folder.glob("*.py") if path.name != "faults.py")
    assert [name for name in KNOWN if f'"{name}"' not in source] == []
