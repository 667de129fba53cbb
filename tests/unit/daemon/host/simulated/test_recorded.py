"""A recorded host can be played on: what was bound stays bound, and can be handed over and given back."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.errors import BadInput
from hostlerd.host.simulated.host import SimulatedHost

GPU = "0000:01:00.0"


@pytest.fixture
def recording(tmp_path: Path) -> str:
    SimulatedHost("desktop").files.save(str(tmp_path / "host"))
    return str(tmp_path / "host")


def test_it_is_the_host_that_was_recorded(recording: str) -> None:
    original, again = SimulatedHost("desktop"), SimulatedHost(recording)
    for key in ("devices", "slices"):
        assert again.show()[key] == original.show()[key]
    folders = ("/sys/devices", "/sys/bus/pci/devices", "/sys/kernel", "/dev")
    assert again.files.flat(*folders) == original.files.flat(*folders)
    assert again.kernel.log == []


async def test_it_can_be_played_on(recording: str, tmp_path: Path) -> None:
    host = SimulatedHost(recording, state_file=str(tmp_path / "state.json"))
    before = host.show()["devices"]
    await host.simulate("define", {"name": "a", "devices": "0000:02:00.0"})
    await host.simulate("start", {"name": "a"})
    assert host.show()["devices"]["0000:02:00.0"]["on_vfio"]
    again = SimulatedHost(recording, state_file=str(tmp_path / "state.json"))
    await again.simulate("stop", {"name": "a"})
    assert again.show()["devices"] == before


async def test_the_simulator_records(tmp_path: Path) -> None:
    host = SimulatedHost("lab")
    await host.simulate("record", {"path": str(tmp_path / "lab")})
    assert SimulatedHost(str(tmp_path / "lab")).show()["devices"] == host.show()["devices"]


def test_a_recording_of_processors_alone(tmp_path: Path) -> None:
    for cpu in (0, 1, 2):
        (tmp_path / f"sys/devices/system/cpu/cpu{cpu}").mkdir(parents=True)
    for cpu in (0, 1):
        (tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology").mkdir()
    host = SimulatedHost(str(tmp_path))
    assert host.kernel.cpus == {0, 1}
    assert host.show()["devices"] == {}
    assert host.show()["slices"]["user.slice"] == "0-1"
    assert not host.kernel.pci.iommu


@pytest.mark.parametrize("name", ["./none", "sys"])
def test_what_is_no_recording(tmp_path: Path, name: str) -> None:
    (tmp_path / "sys").mkdir()
    with pytest.raises(BadInput):
        SimulatedHost(str(tmp_path / name) if name == "sys" else name)
