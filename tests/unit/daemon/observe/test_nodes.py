"""The nodes through which a function can be held."""

from __future__ import annotations

import pytest
from tests.unit.daemon.observe.recorded import tree

from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.devices import Function
from hostlerd.observe.nodes import Node, nodes
from hostlerd.observe.pci import observe_functions

CARD = "0000:01:00.0"
FOLDER = f"/sys/bus/pci/devices/{CARD}"
UUID = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"


def function(**more: object) -> Function:
    return Function(address=CARD, vendor=1, device=1, class_code=0x030000, **more)  # type: ignore[arg-type]


def found(files: Tree, **more: object) -> set[Node]:
    return set(nodes(files, function(**more)))


def test_a_class_nobody_has_heard_of() -> None:
    files = tree({f"{FOLDER}/vendorlink/vendor0/dev": "511:7\n", f"{FOLDER}/vendorlink/power/dev": "1:1\n"})
    assert found(files) == {Node(path="/dev/vendor0", number=("c", 511, 7))}


def test_the_name_comes_from_udevs_link_else_from_the_name_else_from_the_event() -> None:
    files = tree(
        {
            f"{FOLDER}/drm/card5/dev": "226:5\n",
            f"{FOLDER}/other/thing!x/dev": "500:1\n",
            f"{FOLDER}/more/b7/dev": "501:1\n",
            f"{FOLDER}/more/b7/uevent": "MAJOR=501\nDEVNAME=deep/b7\n",
            f"{FOLDER}/linked/l0/dev": "502:1\n",
        },
        {"/dev/char/502:1": "../by/udev"},
    )
    assert {node.path for node in found(files)} == {
        "/dev/dri/card5",
        "/dev/thing/x",
        "/dev/deep/b7",
        "/dev/by/udev",
    }


def test_other_functions_below_a_bridge_are_not_its_own() -> None:
    assert found(tree({f"{FOLDER}/0000:02:00.0/drm/card0/dev": "226:0\n"})) == set()


def test_links_are_not_followed() -> None:
    files = tree({"/sys/elsewhere/drm/card0/dev": "226:0\n", f"{FOLDER}/class": ""})
    files.link_as_is(f"{FOLDER}/virtfn0", "/sys/elsewhere")
    assert found(files) == set()


def test_usb_devices_by_their_own_numbers() -> None:
    usb = f"{FOLDER}/usb3/3-1"
    files = tree(
        {
            f"{FOLDER}/usb3/dev": "189:256\n",
            f"{FOLDER}/usb3/uevent": "DEVNAME=bus/usb/003/001\n",
            f"{usb}/dev": "189:257\n",
            f"{usb}/uevent": "DEVNAME=bus/usb/003/002\n",
            f"{usb}/3-1:1.0/ttyUSB0/tty/ttyUSB0/dev": "188:0\n",
        }
    )
    assert found(files) == {
        Node(path="/dev/bus/usb/003/001", number=("c", 189, 256)),
        Node(path="/dev/bus/usb/003/002", number=("c", 189, 257)),
        Node(path="/dev/ttyUSB0", number=("c", 188, 0)),
    }


def test_block_devices_and_what_is_built_on_them() -> None:
    disk = f"{FOLDER}/ata1/host0/target0:0:0/0:0:0:0/block/sda"
    files = tree(
        {
            f"{disk}/dev": "8:0\n",
            f"{disk}/sda1/dev": "8:1\n",
            "/sys/devices/virtual/block/dm-0/dev": "253:0\n",
            "/sys/devices/virtual/block/md1/dev": "9:1\n",
        },
        {
            "/sys/class/block/sda": disk,
            "/sys/class/block/sda1": f"{disk}/sda1",
            "/sys/class/block/dm-0": "/sys/devices/virtual/block/dm-0",
            "/sys/class/block/md1": "/sys/devices/virtual/block/md1",
            f"{disk}/sda1/holders/dm-0": "/sys/devices/virtual/block/dm-0",
            "/sys/devices/virtual/block/dm-0/holders/md1": "/sys/devices/virtual/block/md1",
        },
    )
    assert found(files) == {
        Node(path="/dev/sda", number=("b", 8, 0)),
        Node(path="/dev/sda1", number=("b", 8, 1)),
        Node(path="/dev/dm-0", number=("b", 253, 0)),
        Node(path="/dev/md1", number=("b", 9, 1)),
    }


def test_the_disk_of_an_nvme_drive_with_several_ways() -> None:
    head = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1"
    files = tree(
        {
            f"{FOLDER}/nvme/nvme0/dev": "240:0\n",
            f"{FOLDER}/nvme/nvme0/nvme0c0n1/size": "1\n",
            f"{head}/dev": "259:0\n",
            f"{head}/nvme0n1p1/dev": "259:1\n",
        },
        {"/sys/class/block/nvme0n1": head, "/sys/class/block/nvme0n1p1": f"{head}/nvme0n1p1"},
    )
    assert {node.path for node in found(files)} == {"/dev/nvme0", "/dev/nvme0n1", "/dev/nvme0n1p1"}


def test_a_mediated_devices_group_is_its_parents_node() -> None:
    files = tree(
        {"/sys/class/vfio/21/dev": "243:3\n"}, {f"{FOLDER}/{UUID}/iommu_group": "../../iommu_groups/21"}
    )
    files.put(f"{FOLDER}/{UUID}/vfio-dev/vfio4/dev", "242:4\n")
    assert found(files) == {
        Node(path="/dev/vfio/21", number=("c", 243, 3)),
        Node(path="/dev/vfio/devices/vfio4", number=("c", 242, 4)),
    }


@pytest.mark.parametrize("name", ["desktop", "lab", "server"])
def test_every_node_that_the_simulated_kernel_makes_is_found(name: str) -> None:
    host = SimulatedHost(name)
    host.kernel.modprobe(["nvidia"])
    files = host.files
    known = {node for f in observe_functions(files).values() for node in nodes(files, f)}
    by_number = ("/dev/char/", "/dev/block/")
    made = {path for path in files.flat("/dev") if files.device(path) and not path.startswith(by_number)}
    shared = {
        path
        for path in made
        if (path.startswith("/dev/nvidia") and not path[-1].isdecimal()) or "uvm" in path
    }
    assert {node.path for node in known} == made - shared
    assert all(node.number == files.device(node.path) for node in known)
