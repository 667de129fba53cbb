"""What uses what, and what modprobe -r makes of it."""

from __future__ import annotations

import pytest

from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.pci import Blocked

GPU, AUDIO = "0000:04:00.0", "0000:04:00.1"
STACK = ["nvidia_drm", "nvidia_modeset", "nvidia_uvm", "nvidia"]


@pytest.fixture
def host() -> SimulatedHost:
    made = SimulatedHost("desktop")
    made.kernel.plug([*made.spec.cards["second"]])
    return made


def refcount(host: SimulatedHost, module: str) -> int:
    return int(host.files.read(f"/sys/module/{module}/refcnt"))


def hold(host: SimulatedHost, *paths: str, pid: int = 900) -> None:
    host.kernel.hold(GPU, pid=pid, command="app", uid=0, cgroup="/", paths=list(paths) or None)


def test_nvidia_brings_its_stack_and_their_nodes(host: SimulatedHost) -> None:
    assert all(host.kernel.pci.modules.loaded(name) for name in STACK)
    assert host.files.listdir("/sys/module/nvidia/holders") == ["nvidia_modeset", "nvidia_uvm"]
    assert (refcount(host, "nvidia"), refcount(host, "nvidia_modeset")) == (2, 1)
    assert {"nvidia0", "nvidiactl", "nvidia-modeset", "nvidia-uvm"} <= set(host.files.listdir("/dev"))
    assert host.files.device("/dev/nvidiactl") == ("c", 195, 255)
    assert host.files.exists(f"/sys/bus/pci/devices/{GPU}/drm")


def test_the_stack_goes_in_order_and_comes_again(host: SimulatedHost) -> None:
    assert host.kernel.modprobe(["-r", "nvidia"]) == 1
    assert host.kernel.modprobe(["-r", *STACK]) == 0
    assert not any(host.files.exists(f"/sys/module/{name}") for name in STACK)
    assert not [name for name in host.files.listdir("/dev") if name.startswith("nvidia")]
    assert not host.files.exists(f"/sys/bus/pci/devices/{GPU}/driver")
    assert host.kernel.modprobe(["nvidia"]) == 0
    assert host.files.exists("/dev/nvidia0")
    assert host.files.exists(f"/sys/bus/pci/devices/{GPU}/drm")


def test_what_goes_takes_along_what_it_alone_had_used(host: SimulatedHost) -> None:
    assert host.kernel.modprobe(["-r", "nvidia_uvm"]) == 0
    assert host.files.exists("/sys/module/nvidia")
    assert host.kernel.modprobe(["-r", "nvidia_drm"]) == 0
    assert not host.files.exists("/sys/module/nvidia_modeset")
    assert not host.files.exists("/sys/module/nvidia")


@pytest.mark.parametrize(
    ("path", "stays"),
    [
        ("/dev/nvidia-uvm", {"nvidia_uvm", "nvidia"}),
        ("/dev/nvidia-modeset", {"nvidia_modeset", "nvidia"}),
        ("/dev/nvidiactl", {"nvidia"}),
        ("/dev/nvidia0", {"nvidia"}),
    ],
)
def test_an_open_node_keeps_its_module_and_what_that_uses(
    host: SimulatedHost, path: str, stays: set[str]
) -> None:
    hold(host, path)
    assert host.kernel.modprobe(["-r", *STACK]) == 1
    assert {name for name in STACK if host.files.exists(f"/sys/module/{name}")} == stays
    host.kernel.let_go(900)
    assert host.kernel.modprobe(["-r", *STACK]) == 0


def test_a_client_in_the_kernel_keeps_it_and_remove_waits_for_it(host: SimulatedHost) -> None:
    host.kernel.cause("module-held", "nvidia_modeset", "2")
    assert refcount(host, "nvidia_modeset") == 3
    assert host.kernel.modprobe(["-r", *STACK]) == 1
    with pytest.raises(Blocked):
        host.kernel.write(f"/sys/bus/pci/devices/{GPU}/driver/unbind", GPU)
    host.kernel.lift("module-held", "nvidia_modeset")
    assert not host.kernel.pci.devices[GPU].stuck


def test_words_of_modprobe(host: SimulatedHost) -> None:
    assert host.kernel.modprobe(["-r", *STACK]) == 0
    assert host.kernel.modprobe(["-r", "nvidia"]) == 0  # not loaded is no error
    assert host.kernel.modprobe(["-r", "no_such"]) == 1
    assert host.kernel.modprobe(["nvidia-drm"]) == 0
    assert host.kernel.pci.modules.loaded("nvidia")
