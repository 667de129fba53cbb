"""Numbers before names, maps, VFIO's own files, threads, and what must not be asked."""

from __future__ import annotations

import pytest
import trio
from tests.unit.daemon.observe.recorded import tree

from hostler.errors import TimedOut
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.tree import Tree, WouldHang
from hostlerd.model.devices import Function
from hostlerd.observe.holders import HANGING, holders, look_for_holders, with_names

CARD, AUDIO = "0000:01:00.0", "0000:01:00.1"
DEVICES = "/sys/bus/pci/devices"
CARD0 = ("c", 226, 0)


def function(address: str = CARD, **more: object) -> Function:
    return Function(address=address, vendor=1, device=1, class_code=0x030000, **more)  # type: ignore[arg-type]


def host() -> Tree:
    files = tree({f"{DEVICES}/{CARD}/drm/card0/dev": "226:0\n"})
    files.put_device("/dev/dri/card0", CARD0)
    files.link_as_is("/dev/char/226:0", "../dri/card0")
    return files


def process(files: Tree, pid: int, *paths: str, maps: str = "", folder: str = "fd") -> None:
    files.put(f"/proc/{pid}/comm", "program\n")
    files.put(f"/proc/{pid}/status", "Uid:\t0\t0\t0\t0\n")
    files.put(f"/proc/{pid}/stat", f"{pid} (a ) b) S 1 " + "0 " * 17 + "4711 0\n")
    files.put(f"/proc/{pid}/maps", maps)
    files.folder(f"/proc/{pid}/fd")
    for number, path in enumerate(paths, 3):
        files.link_as_is(f"/proc/{pid}/{folder}/{number}", path)


def found(files: Tree, *functions: Function) -> list[tuple[str, int, str, str]]:
    return [(h.address[-1], h.pid, h.node, h.how) for h in holders(files, functions or (function(),))]


def test_the_node_under_another_name() -> None:
    files = host()
    files.put_device("/srv/box/gpu", CARD0)
    process(files, 7, "/srv/box/gpu")
    assert found(files) == [("0", 7, "/dev/dri/card0", "fd")]


def test_another_device_under_the_nodes_name() -> None:
    """A container may have the second card as its /dev/dri/card0; its links show that name."""
    files = host()
    process(files, 7, "/dev/dri/card0")
    files.put_device("/proc/7/fd/3", ("c", 226, 1))  # what stat() of the link sees
    assert holders(files, [function()]) == ()


def test_a_block_device_of_the_same_numbers_is_another() -> None:
    files = host()
    files.put_device("/dev/strange", ("b", 226, 0))
    process(files, 7, "/dev/strange")
    assert found(files) == []


def test_a_node_that_was_removed_while_it_was_open() -> None:
    files = host()
    process(files, 7, "/dev/dri/card0 (deleted)")
    assert found(files) == [("0", 7, "/dev/dri/card0", "fd")]


def test_start_time_and_names_with_brackets() -> None:
    files = host()
    process(files, 7, "/dev/dri/card0")
    assert [holder.start for holder in holders(files, [function()])] == [4711]


MAP = "7f00-7f01 {mode} 00000000 00:05 {inode} {path}\n"


@pytest.mark.parametrize(
    ("mode", "path", "is_held"),
    [
        ("rw-s", "/dev/dri/card0", True),
        ("rw-p", "/dev/dri/card0", True),
        ("rw-s", "/dev/dri/card0 (deleted)", True),
        ("rw-s", "/srv/box/gpu", True),
        ("rw-p", "/srv/box/gpu", False),  # what is private and has no device's name is a file
        ("r--s", "/usr/lib/gconv/gconv-modules.cache", False),
        ("rw-s", "/dev/zero (deleted)", False),
        ("rw-s", "/dev/shm/x", False),
        ("rw-s", "anon_inode:[vfio-device]", False),
        ("rw-p", "", False),
    ],
)
def test_maps(mode: str, path: str, is_held: bool) -> None:
    files = host()
    process(files, 7, maps=MAP.format(mode=mode, inode=90, path=path) * 2)
    if path == "/srv/box/gpu":
        files.put_device("/proc/7/map_files/7f00-7f01", CARD0)
    assert found(files) == ([("0", 7, "/dev/dri/card0", "map")] if is_held else [])


def test_a_node_that_is_open_and_mapped_is_told_once() -> None:
    files = host()
    process(files, 7, "/dev/dri/card0", maps=MAP.format(mode="rw-s", inode=90, path="/dev/dri/card0"))
    assert found(files) == [("0", 7, "/dev/dri/card0", "fd")]


def test_files_of_threads_that_outlived_the_first() -> None:
    files = host()
    process(files, 7)
    files.folder("/proc/7/task/7")
    process(files, 7, "/dev/dri/card0", folder="task/8/fd")
    assert found(files) == [("0", 7, "/dev/dri/card0", "fd")]


def test_a_pid_that_is_another_process_by_now_is_left_out() -> None:
    files = host()
    process(files, 7, "/dev/dri/card0")
    read = files.read

    def ends(path: str) -> str:
        if path == "/proc/7/comm":
            files.discard("/proc/7/fd/3")
        return read(path)

    files.read = ends  # type: ignore[method-assign]  # the moment matters
    assert holders(files, [function()]) == ()


@pytest.mark.parametrize(
    ("mount", "is_asked"),
    [
        ("/ / rw shared:1 - ext4 /dev/sda1 rw", True),
        ("/ /srv/box rw,nodev - ext4 /dev/sda1 rw", False),
        ("/ /srv rw - nfs4 away:/ rw", False),
        ("/ /srv rw - fuse.sshfs away:/ rw", False),
        (r"/ /srv/other\040one rw - nfs4 away:/ rw", True),
        ("nonsense", True),
    ],
)
def test_what_may_not_answer_is_not_asked(mount: str, is_asked: bool) -> None:
    files = host()
    files.put_device("/srv/box/gpu", CARD0)
    process(files, 7, "/srv/box/gpu")
    files.link_as_is("/proc/7/ns/mnt", "mnt:[1]")
    files.put("/proc/7/mountinfo", f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:50 {mount}\n")
    asked: list[str] = []
    device = files.device

    def noted(path: str) -> object:
        asked.append(path)
        return device(path)

    files.device = noted  # type: ignore[method-assign,assignment]  # that it is not called is the point
    assert (found(files) != []) is is_asked
    assert ("/proc/7/fd/3" in asked) is is_asked


def on_vfio() -> tuple[Tree, tuple[Function, ...]]:
    files = tree({f"{DEVICES}/{CARD}/vfio-dev/vfio0/dev": "242:0\n"})
    for group in (14, 15):
        files.put(f"/sys/class/vfio/{group}/dev", f"243:{group}\n")
    files.put_device("/dev/vfio/vfio", ("c", 10, 196))
    return files, (function(group=14, on_vfio=True), function(AUDIO, group=15, on_vfio=True))


ANON = "anon_inode:[vfio-device]"


def test_the_container_node_is_told_of_who_has_a_device() -> None:
    files, card = on_vfio()
    process(files, 7, "/dev/vfio/vfio", "/dev/vfio/14", "/dev/iommu")
    process(files, 8, "/dev/vfio/vfio", "/dev/iommu")  # of another device, perhaps
    assert found(files, *card) == [
        ("0", 7, "/dev/iommu", "fd"),
        ("0", 7, "/dev/vfio/14", "fd"),
        ("0", 7, "/dev/vfio/vfio", "fd"),
    ]


def test_an_open_vfio_device_that_the_kernel_names() -> None:
    files, card = on_vfio()
    process(files, 7, ANON)
    files.put(
        "/proc/7/fdinfo/3", f"pos:\t0\nvfio-device-syspath: /sys/devices/pci0000:00/0000:00:01.0/{AUDIO}\n"
    )
    assert found(files, *card) == [("1", 7, ANON, "fd")]
    files.put("/proc/7/fdinfo/3", "vfio-device-syspath: /sys/devices/pci0000:00/0000:00:09.0\n")
    assert found(files, *card) == []


def test_an_open_vfio_device_that_it_does_not_name_may_be_any_unless_a_node_tells() -> None:
    files, card = on_vfio()
    process(files, 7, ANON)
    process(files, 8, ANON, "/dev/vfio/15")
    process(files, 9, maps=MAP.format(mode="rw-s", inode=1, path=ANON))
    assert found(files, *card) == [
        ("0", 7, ANON, "fd"),
        ("0", 9, ANON, "map"),
        ("1", 7, ANON, "fd"),
        ("1", 8, "/dev/vfio/15", "fd"),
        ("1", 9, ANON, "map"),
    ]


def test_the_device_of_another_domain_is_not_taken_for_the_one_that_is_asked_about() -> None:
    """QEMU has its group open, the device behind it, and its BARs mapped: that is one thing, and of its own group."""
    files, (asked, _) = on_vfio()
    process(
        files, 8, "/dev/vfio/vfio", "/dev/vfio/15", ANON, maps=MAP.format(mode="rw-s", inode=1, path=ANON)
    )
    assert found(files, asked) == []


def test_nvidias_nodes_in_a_container_by_the_modules_major() -> None:
    files = host()
    files.put(
        "/proc/devices", "Character devices:\n  1 mem\n195 nvidia\n510 nvidia-uvm\n\nBlock devices:\n  8 sd\n"
    )
    for number, (path, minor) in enumerate(
        (("/x/ctl", (195, 255)), ("/x/uvm", (510, 0)), ("/x/one", (195, 1)))
    ):
        files.put_device(path, ("c", *minor))
        process(files, 10 + number, path)
    assert found(files, function(driver="nvidia")) == [("0", 10, "/x/ctl", "fd"), ("0", 11, "/x/uvm", "fd")]


# --- the kernel


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 8:1 /x /snap rw - ext4 /dev/sda1 rw
24 22 0:31 / /home rw - btrfs /dev/sda2 rw
25 22 0:4 / /proc rw - proc proc rw
"""


def with_disk() -> Tree:
    disk = f"{DEVICES}/{CARD}/ata1/block/sda"
    return tree(
        {
            f"{disk}/dev": "8:0\n",
            **{f"{disk}/sda{n}/dev": f"8:{n}\n" for n in (1, 2, 3)},
            "/proc/1/mountinfo": MOUNTS,
            "/proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/dev/sda3 partition 1 0 -2\n",
        }
    )


def test_what_is_mounted_or_swapped_to() -> None:
    found = [(h.node, h.pid, h.command, h.how) for h in holders(with_disk(), [function()])]
    assert found == [
        ("/dev/sda1", 0, "kernel: mounted at / and in 1 more", "kernel"),
        ("/dev/sda2", 0, "kernel: mounted at /home", "kernel"),
        ("/dev/sda3", 0, "kernel: swap", "kernel"),
    ]


def test_mounts_of_a_host_that_shows_no_first_process() -> None:
    files = with_disk()
    files.discard("/proc/1/mountinfo")
    files.put("/proc/self/mountinfo", MOUNTS)
    assert len(holders(files, [function()])) == 3


# --- looking without hanging, and names


class Hanging(Tree):
    """Reading the maps of these processes does not return."""

    pids: tuple[int, ...] = ()

    def lines_with(self, path: str, words: object) -> list[str]:
        if path in {f"/proc/{pid}/maps" for pid in self.pids}:
            raise WouldHang(path)
        return super().lines_with(path, words)  # type: ignore[arg-type]


async def test_a_process_whose_maps_hang_is_seen_by_its_files(autojump_clock: trio.abc.Clock) -> None:
    made = SimulatedHost("desktop")
    for pid in (71, 72):
        made.kernel.hold(CARD, pid=pid, command="game", uid=0, cgroup="/")
    tree_ = made.kernel.tree
    hung = Hanging()
    hung.load(tree_.dump())
    hung.pids = (71, 72)
    made.kernel.tree = hung
    found = await look_for_holders(made, [function()], limit=5)
    assert {holder.pid for holder in found} == {71, 72}
    assert trio.current_time() >= 10  # one limit for each
    hung.pids = tuple(range(71, 72 + HANGING))
    for pid in hung.pids[2:]:
        made.kernel.processes.tree = hung
        made.kernel.processes.start(pid=pid, command="x", uid=0, cgroup="/", paths=[])
    with pytest.raises(TimedOut):
        await look_for_holders(made, [function()], limit=5)


async def test_containers_get_their_names() -> None:
    made = SimulatedHost("desktop")
    await made.simulate("contain", {"name": "ollama", "address": CARD, "pid": 90, "command": "ollama"})
    made.kernel.hold(CARD, pid=91, command="Xorg", uid=0, cgroup="/system.slice/display-manager.service")
    seen = await with_names(made.engines, holders(made.files, [function()]))
    assert {(h.pid, h.place) for h in seen} == {(90, "container ollama"), (91, "display-manager.service")}
    made.engines.away = True
    unnamed = await with_names(made.engines, holders(made.files, [function()]))
    assert {h.container_name for h in unnamed} == {None}
