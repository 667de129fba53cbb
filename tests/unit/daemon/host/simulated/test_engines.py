"""Simulated containers: they stop, start again, and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.errors import HostFailed
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.holders import Container
from hostlerd.observe.holders import holders
from hostlerd.observe.pci import observe_functions

GPU = "0000:01:00.0"


async def made(**more: object) -> tuple[SimulatedHost, Container]:
    host = SimulatedHost("desktop")
    params = {"name": "web", "address": GPU, "pid": 4000, "command": "obs", **more}
    id_ = (await host.simulate("contain", params))["id"]
    return host, Container(engine=str(more.get("engine", "docker")), id=id_)


def pids(host: SimulatedHost) -> list[int]:
    found = holders(host.files, [observe_functions(host.files)[GPU]])
    return sorted({holder.pid for holder in found})


@pytest.mark.parametrize("engine", ["docker", "podman"])
async def test_it_lets_go_when_it_stops_and_has_it_again_when_it_starts(engine: str) -> None:
    host, container = await made(engine=engine)
    (one, *_) = holders(host.files, [observe_functions(host.files)[GPU]])
    assert one.in_container == container
    await host.engines.stop(container, seconds=5)
    assert pids(host) == []
    await host.engines.start(container)
    assert pids(host) == [5000]


async def test_it_does_not_start_while_its_device_is_away() -> None:
    host, container = await made()
    await host.engines.stop(container, seconds=5)
    host.kernel.write(f"/sys/bus/pci/devices/{GPU}/driver/unbind", GPU)
    with pytest.raises(HostFailed, match="no such device /dev/dri/"):
        await host.engines.start(container)


async def test_faults_and_an_engine_that_is_away() -> None:
    host, container = await made()
    host.kernel.cause("engine-refuses", "web", "permission denied")
    with pytest.raises(HostFailed, match="permission denied"):
        await host.engines.stop(container, seconds=5)
    host.engines.away = True
    assert await host.engines.names([container]) == {}
    assert pids(host) == [4000]


async def test_containers_outlive_the_daemon(tmp_path: Path) -> None:
    path = str(tmp_path / "host.json")
    host = SimulatedHost("desktop", state_file=path)
    params = {"name": "web", "address": GPU, "pid": 4000, "command": "obs"}
    id_ = (await host.simulate("contain", params))["id"]
    again = SimulatedHost("desktop", state_file=path)
    container = Container(engine="docker", id=id_)
    assert await again.engines.names([container]) == {container: "web"}
    assert again.files.device("/dev/dri/card0") == ("c", 226, 0)
    assert pids(again) == [4000]
