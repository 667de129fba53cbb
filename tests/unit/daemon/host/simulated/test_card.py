"""What a simulated card does beside being bound: resets, BARs, sleep, death, and the boot framebuffer on it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.hosts import SCREEN

GPU, CARD = "0000:01:00.0", "0000:02:00.0"
DEVICES, EFIFB = "/sys/bus/pci/devices", "/sys/bus/platform/drivers/efi-framebuffer"


@contextmanager
def refused(code: int) -> Iterator[None]:
    with pytest.raises(OSError, match=r".*") as caught:
        yield
    assert caught.value.errno == code


def test_reset_methods_are_those_that_it_has() -> None:
    host = SimulatedHost("desktop")
    path = f"{DEVICES}/{GPU}/reset_method"
    assert host.files.read(path) == "flr bus\n"
    host.kernel.write(path, "bus\n")
    for text in ("pm\n", "nonsense\n", "bus pm\n"):
        with refused(errno.EINVAL):
            host.kernel.write(path, text)
    assert host.files.read(path) == "bus\n"
    host.kernel.write(path, "default\n")
    assert host.files.read(path) == "flr bus\n"


def test_a_bar_is_resized_without_a_driver_only() -> None:
    host = SimulatedHost("desktop")
    path = f"{DEVICES}/{GPU}/resource0_resize"
    with refused(errno.EBUSY):
        host.kernel.write(path, "14\n")
    host.kernel.write("/sys/bus/pci/drivers/amdgpu/unbind", GPU)
    for text in ("7\n", "15\n", "x\n"):
        with refused(errno.EINVAL):
            host.kernel.write(path, text)
    host.kernel.write(path, "14\n")
    start, end = (int(w, 16) for w in host.files.read(f"{DEVICES}/{GPU}/resource").split()[:2])
    assert end - start + 1 == 16 << 30
    host.kernel.cause("no-room", GPU, "8192")
    with refused(errno.ENOSPC):
        host.kernel.write(path, "13\n")


def test_a_dead_card_reads_as_ones_and_no_driver_takes_it() -> None:
    host = SimulatedHost("desktop")
    path = f"{DEVICES}/{GPU}/config"
    assert host.kernel.read(path)[:4] == b"\x02\x10\xbf\x73"
    host.kernel.cause("dead", GPU, "rescan")
    assert host.kernel.read(path)[:4] == b"\xff" * 4
    host.kernel.write("/sys/bus/pci/drivers/amdgpu/unbind", GPU)
    with refused(errno.EIO):
        host.kernel.write("/sys/bus/pci/drivers/amdgpu/bind", GPU)
    host.kernel.write(f"{DEVICES}/0000:00:01.0/reset_subordinate", "1")
    assert host.kernel.pci.is_dead(GPU)
    host.kernel.write(f"{DEVICES}/{GPU}/remove", "1")
    assert not host.files.exists(f"{DEVICES}/{GPU}")
    host.kernel.write("/sys/bus/pci/rescan", "1")
    assert host.show()["devices"][GPU]["driver"] == "amdgpu"


def test_a_function_that_shares_its_bus_cannot_reset_it_alone() -> None:
    host = SimulatedHost("desktop")
    host.kernel.cause("dead", GPU, "reset")
    host.kernel.write(f"{DEVICES}/{GPU}/reset_method", "bus\n")
    with refused(errno.ENOTTY):
        host.kernel.write(f"{DEVICES}/{GPU}/reset", "1")
    host.kernel.write(f"{DEVICES}/0000:00:01.0/reset_subordinate", "1")
    assert not host.kernel.pci.is_dead(GPU)


def test_what_stays_dead_is_not_found_again_and_the_state_file_remembers(tmp_path: Path) -> None:
    state = str(tmp_path / "host.json")
    host = SimulatedHost("desktop", state_file=state)
    host.kernel.cause("dead", GPU, "")
    host.kernel.write(f"{DEVICES}/{GPU}/remove", "1")
    host.kernel.write("/sys/bus/pci/rescan", "1")
    assert not host.files.exists(f"{DEVICES}/{GPU}")
    again = SimulatedHost("desktop", state_file=state)
    again.kernel.lift("dead", GPU)
    again.kernel.write("/sys/bus/pci/rescan", "1")
    assert again.files.exists(f"{DEVICES}/{GPU}/driver")


@pytest.mark.parametrize(("name", "text"), [("power/control", "on\n"), ("d3cold_allowed", "0\n")])
def test_a_sleeping_card_is_woken_or_dies_of_being_moved(name: str, text: str) -> None:
    for wake in (True, False):
        host = SimulatedHost("desktop")
        host.kernel.cause("d3cold", GPU, "")
        assert host.files.read(f"{DEVICES}/{GPU}/power/runtime_status") == "suspended\n"
        if wake:
            host.kernel.write(f"{DEVICES}/{GPU}/{name}", text)
            assert host.files.read(f"{DEVICES}/{GPU}/power/runtime_status") == "active\n"
        host.kernel.write("/sys/bus/pci/drivers/amdgpu/unbind", GPU)
        assert host.kernel.pci.is_dead(GPU) is not wake


@pytest.mark.parametrize("release", ["6.1.0-sim", "6.12.0-sim"])
def test_the_boot_framebuffer_lets_go_and_comes_back(release: str) -> None:
    """Lab: `screen`."""
    host = SimulatedHost(replace(SCREEN, release=release))
    before = host.files.flat("/sys", "/proc/iomem", "/proc/fb")
    assert host.files.read("/proc/fb") == "0 EFI VGA\n"
    host.kernel.write(f"{EFIFB}/unbind", "efi-framebuffer.0")
    assert not host.files.exists("/dev/fb0")
    assert not host.files.exists("/sys/class/vtconsole/vtcon1")
    assert "efifb" not in host.files.read("/proc/iomem")
    with refused(errno.ENODEV):
        host.kernel.write(f"{EFIFB}/unbind", "efi-framebuffer.0")
    host.kernel.write(f"{EFIFB}/bind", "efi-framebuffer.0")
    assert host.files.flat("/sys", "/proc/iomem", "/proc/fb") == before
    with refused(errno.EBUSY):
        host.kernel.write(f"{EFIFB}/bind", "efi-framebuffer.0")
    with refused(errno.ENODEV):
        host.kernel.write(f"{EFIFB}/bind", "efi-framebuffer.1")


def test_the_cards_own_driver_ends_the_boot_framebuffer() -> None:
    host = SimulatedHost(
        replace(SCREEN, drivers=(*SCREEN.drivers, "bochs-drm"), not_loaded=("vfio-pci", "bochs-drm"))
    )
    host.kernel.modprobe(["bochs"])
    assert host.show()["devices"][CARD]["driver"] == "bochs-drm"
    assert not host.files.exists("/sys/bus/platform/devices/efi-framebuffer.0")
    assert "efifb" not in host.files.read("/proc/iomem")


def test_the_state_file_keeps_the_screen(tmp_path: Path) -> None:
    state = str(tmp_path / "host.json")
    host = SimulatedHost("screen", state_file=state)
    host.kernel.write(f"{EFIFB}/unbind", "efi-framebuffer.0")
    again = SimulatedHost("screen", state_file=state)
    again.kernel.write(f"{EFIFB}/bind", "efi-framebuffer.0")
    assert again.files.exists("/dev/fb0")
