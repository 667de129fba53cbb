"""Processes that have a device open."""

from __future__ import annotations

import pytest
from tests.unit.daemon.observe.recorded import tree

from hostlerd.host.files import RootFiles
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.devices import Function
from hostlerd.model.holders import Holder
from hostlerd.observe.holders import holders

GPU, AUDIO, USB = "0000:01:00.0", "0000:01:00.1", "0000:01:00.2"
DEVICES = "/sys/bus/pci/devices"
SESSION = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-steam.scope\n"


def function(address: str, **more: object) -> Function:
    return Function(address=address, vendor=0x10DE, device=1, class_code=0x030000, **more)  # type: ignore[arg-type]


def host() -> Tree:
    return tree(
        {
            f"{DEVICES}/{GPU}/drm/card0/dev": "",
            f"{DEVICES}/{GPU}/drm/card0/card0-DP-1/i2c-7/i2c-dev/i2c-7/dev": "",
            f"{DEVICES}/{GPU}/drm/renderD128/dev": "",
            f"{DEVICES}/{GPU}/graphics/fb0/dev": "",
            f"{DEVICES}/{AUDIO}/sound/card1/controlC1/dev": "",
            f"{DEVICES}/{AUDIO}/sound/card1/pcmC1D3p/dev": "",
            f"{DEVICES}/{AUDIO}/sound/card1/input12/event5/dev": "",
            f"{DEVICES}/{USB}/usb3/3-1/3-1:1.0/0003:046D:C52B.0001/hidraw/hidraw2/dev": "",
            f"{DEVICES}/{USB}/usb3/3-1/3-1:1.0/0003:046D:C52B.0001/input/input9/event3/dev": "",
            f"{DEVICES}/{USB}/usb3/3-2/3-2:1.0/host6/target6:0:0/6:0:0:0/block/sdb/sdb1/dev": "",
            "/etc/passwd": "root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\n",
            "/proc/version": "x",
        }
    )


def process(files: Tree, pid: int, *paths: str, uid: int = 1000, cgroup: str = SESSION) -> None:
    files.put(f"/proc/{pid}/comm", f"program{pid}\n")
    files.put(f"/proc/{pid}/status", f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
    files.put(f"/proc/{pid}/cgroup", cgroup)
    files.folder(f"/proc/{pid}/fd")
    for number, path in enumerate(paths):
        files.link_as_is(f"/proc/{pid}/fd/{number}", path)


ALL = (function(GPU), function(AUDIO), function(USB))


def test_who_where_and_what() -> None:
    files = host()
    process(files, 42, "/dev/null", "socket:[1]", "/dev/dri/renderD128")
    assert holders(files, ALL) == (
        Holder(
            address=GPU,
            pid=42,
            command="program42",
            user="anna",
            unit="app-steam.scope",
            container=None,
            node="/dev/dri/renderD128",
            manager="user@1000.service",
        ),
    )


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/dev/dri/card0", GPU),
        ("/dev/i2c-7", GPU),
        ("/dev/fb0", GPU),
        ("/dev/snd/controlC1", AUDIO),
        ("/dev/snd/pcmC1D3p", AUDIO),
        ("/dev/input/event5", AUDIO),
        ("/dev/bus/usb/003/002", USB),
        ("/dev/hidraw2", USB),
        ("/dev/input/event3", USB),
        ("/dev/sdb", USB),
        ("/dev/sdb1", USB),
        ("/dev/dri/card1", None),
        ("/dev/snd/seq", None),
        ("/dev/bus/usb/001/001", None),
        ("/dev/sda", None),
    ],
)
def test_nodes(path: str, address: str | None) -> None:
    files = host()
    process(files, 7, path)
    assert [holder.address for holder in holders(files, ALL)] == ([address] if address else [])


def test_a_node_that_is_open_twice_counts_once() -> None:
    files = host()
    process(files, 7, "/dev/dri/card0", "/dev/dri/card0")
    assert len(holders(files, ALL)) == 1


def test_vfio_nodes_of_the_group_and_of_the_device() -> None:
    files = host()
    files.folder(f"{DEVICES}/{GPU}/vfio-dev/vfio3")
    card = (function(GPU, group=14, on_vfio=True), function(AUDIO, group=14, on_vfio=True))
    process(files, 7, "/dev/vfio/14")
    process(files, 8, "/dev/vfio/devices/vfio3")
    assert [(h.pid, h.address) for h in holders(files, card)] == [(7, GPU), (8, GPU), (7, AUDIO)]


def test_nvidias_own_nodes_and_those_that_hold_its_module() -> None:
    files = host()
    other = "0000:02:00.0"
    for number, address in enumerate((other, GPU)):
        files.put(
            f"/proc/driver/nvidia/gpus/{address}/information", f"Model: \t AD102\nDevice Minor: \t {number}\n"
        )
    process(files, 7, "/dev/nvidia1")
    process(files, 8, "/dev/nvidiactl")
    process(files, 9, "/dev/nvidia0")
    cards = [function(GPU, driver="nvidia"), function(other, driver="nvidia")]
    assert [(h.pid, h.address, h.node) for h in holders(files, cards)] == [
        (7, GPU, "/dev/nvidia1"),
        (8, GPU, "/dev/nvidiactl"),
        (8, other, "/dev/nvidiactl"),
        (9, other, "/dev/nvidia0"),
    ]


def test_an_unreadable_function_is_looked_at_by_names_alone() -> None:
    files = host()
    process(files, 7, "/dev/dri/card0")
    process(files, 8, "/dev/nvidia1")
    files.put(f"/proc/driver/nvidia/gpus/{GPU}/information", "Device Minor: \t 1\n")
    reads: list[str] = []
    read = files.read

    def noted(path: str) -> str:
        reads.append(path)
        return read(path)

    files.read = noted  # type: ignore[method-assign]  # what it reads is what this is about
    (found,) = holders(files, [function(GPU, readable=False, driver="nvidia")])
    assert (found.pid, found.node) == (7, "/dev/dri/card0")
    assert not [path for path in reads if path.startswith(("/sys/bus/pci", "/proc/driver"))]


def test_a_user_without_a_name_is_a_number() -> None:
    files = host()
    process(files, 7, "/dev/dri/card0", uid=4711)
    assert [holder.user for holder in holders(files, ALL)] == ["4711"]


def test_a_process_that_ended_meanwhile_is_left_out() -> None:
    files = host()
    process(files, 7, "/dev/dri/card0")
    files.discard("/proc/7/status")
    assert holders(files, ALL) == ()


def test_a_device_that_is_not_there_has_no_holders() -> None:
    assert holders(RootFiles("/"), [function("ffff:ff:1f.7")]) == ()
