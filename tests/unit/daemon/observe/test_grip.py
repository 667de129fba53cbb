"""What keeps a function busy and is no process with a file."""

from __future__ import annotations

import pytest
from tests.unit.daemon.observe.recorded import tree

from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.devices import Function
from hostlerd.model.holders import Grip, Module, Network, Stream
from hostlerd.observe.grip import grip, grips
from hostlerd.observe.pci import observe_functions

CARD = "0000:01:00.0"
FOLDER = f"/sys/bus/pci/devices/{CARD}"


def function(**more: object) -> Function:
    return Function(address=CARD, vendor=1, device=1, class_code=0x030000, **more)  # type: ignore[arg-type]


def modules(users: dict[str, tuple[int, str]]) -> Tree:
    """Module to refcnt and the modules that use it, with spaces; the driver "gpu" is in the first."""
    files = Tree()
    for name, (count, by) in users.items():
        files.put(f"/sys/module/{name}/refcnt", f"{count}\n")
        files.folder(f"/sys/module/{name}/holders")
        for user in by.split():
            files.link_as_is(f"/sys/module/{name}/holders/{user}", f"/sys/module/{user}")
    files.folder("/sys/bus/pci/drivers/gpu")
    files.link_as_is("/sys/bus/pci/drivers/gpu/module", f"../../../../module/{next(iter(users))}")
    return files


def test_modules_come_in_the_order_in_which_they_can_be_unloaded() -> None:
    files = modules({"nv": (9, "modeset uvm"), "modeset": (2, "drm"), "drm": (1, ""), "uvm": (0, "")})
    found = grip(files, function(driver="gpu")).modules
    assert found[-1] == Module(name="nv", refcount=9, used_by=("modeset", "uvm"))
    assert found[-1].references == 7
    order = [module.name for module in found]
    assert sorted(order) == ["drm", "modeset", "nv", "uvm"]
    assert order.index("drm") < order.index("modeset")


def test_a_module_that_two_others_use_goes_after_both() -> None:
    files = modules({"a": (2, "b c"), "b": (1, "c"), "c": (0, "")})
    assert [m.name for m in grip(files, function(driver="gpu")).modules] == ["c", "b", "a"]


def test_a_ring_of_modules_has_an_end() -> None:
    files = modules({"a": (1, "b"), "b": (1, "a")})
    assert {m.name for m in grip(files, function(driver="gpu")).modules} == {"a", "b"}


def test_a_driver_that_is_built_in_has_none() -> None:
    assert grip(modules({"a": (0, "")}), function(driver="other")).modules == ()
    assert grip(Tree(), function()) == Grip(address=CARD)


@pytest.mark.parametrize(
    ("has_fb", "name", "bind", "consoles"),
    [
        (True, "(M) frame buffer device\n", "1\n", ("vtcon1",)),
        (True, "(M) frame buffer device\n", "0\n", ()),
        (True, "(S) dummy device\n", "1\n", ()),
        (False, "(M) frame buffer device\n", "1\n", ()),
    ],
)
def test_the_console(has_fb: bool, name: str, bind: str, consoles: tuple[str, ...]) -> None:
    files = tree({"/sys/class/vtconsole/vtcon1/name": name, "/sys/class/vtconsole/vtcon1/bind": bind})
    if has_fb:
        files.put(f"{FOLDER}/graphics/fb0/dev", "29:0\n")
    found = grip(files, function())
    assert (found.consoles, found.framebuffers) == (consoles, ("fb0",) if has_fb else ())


def test_open_sound_streams() -> None:
    status = "state: RUNNING\nowner_pid   : 812\ntrigger_time: 1.2\n"
    files = tree(
        {
            f"{FOLDER}/sound/card1/controlC1/dev": "116:32\n",
            "/proc/asound/card1/pcm3p/sub0/status": status,
            "/proc/asound/card1/pcm0c/sub0/status": "closed\n",
            "/proc/asound/card1/pcm0c/info": "card: 1\n",
            "/proc/asound/card1/id": "HDMI\n",
            "/proc/asound/card0/pcm0p/sub0/status": status,
        }
    )
    found = grip(files, function())
    assert found.streams == (Stream(node="pcmC1D3p", state="RUNNING", pid=812),)
    assert found.words == ("sound stream pcmC1D3p is running by process 812",)


ROUTES = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\nlan0\t{to}\t0\t1\t0\t0\t100\t{mask}\t0\n"
)


@pytest.mark.parametrize(
    ("files", "network", "words"),
    [
        ({"flags": "0x1002"}, Network(name="lan0"), ()),
        ({"flags": "0x1003"}, Network(name="lan0", up=True), ()),
        (
            {"flags": "0x1003", "route": ROUTES.format(to="0002A8C0", mask="00FFFFFF")},
            Network(name="lan0", up=True, addressed=True),
            ("lan0 is up and has an address",),
        ),
        (
            {"flags": "0x1003", "route": ROUTES.format(to="00000000", mask="00000000")},
            Network(name="lan0", up=True, addressed=True, default_route=True),
            ("the host's way out is through lan0",),
        ),
        (
            {"flags": "0x1003", "ipv6_route": f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} 1 1 1 1 lan0\n"},
            Network(name="lan0", up=True, default_route=True),
            ("the host's way out is through lan0",),
        ),
        (
            {"flags": "0x1003", "if_inet6": f"20010db8{'0' * 24} 02 40 00 80 lan0\n"},
            Network(name="lan0", up=True, addressed=True),
            ("lan0 is up and has an address",),
        ),
        (
            {"flags": "0x1003", "if_inet6": f"fe80{'0' * 28} 02 40 20 80 lan0\n"},
            Network(name="lan0", up=True),
            (),
        ),
        (
            {"flags": "0x1103", "master": "br0"},
            Network(name="lan0", up=True, master="br0"),
            ("lan0 is a port of br0",),
        ),
    ],
)
def test_networks(files: dict[str, str], network: Network, words: tuple[str, ...]) -> None:
    host = tree({f"{FOLDER}/net/lan0/mtu": "1500\n", "/sys/class/net/lan0/flags": files["flags"] + "\n"})
    if "master" in files:
        host.link_as_is("/sys/class/net/lan0/master", f"../{files['master']}")
    for name in ("route", "ipv6_route", "if_inet6"):
        host.put(f"/proc/net/{name}", files.get(name, ""))
    found = grip(host, function())
    assert (found.networks, found.words) == ((network,), words)


def test_disks_that_others_are_built_on() -> None:
    disk = f"/sys/devices/pci0000:00/{CARD}/ata1/host0/block/sda"
    files = tree(
        {f"{disk}/sda1/partition": "1\n", f"{disk}/sda1/start": "1\n"},
        {
            "/sys/class/block/sda": f"../../devices/pci0000:00/{CARD}/ata1/host0/block/sda",
            "/sys/class/block/sda1": f"../../devices/pci0000:00/{CARD}/ata1/host0/block/sda/sda1",
            "/sys/class/block/sdb": "../../devices/pci0000:00/0000:02:00.0/ata2/host1/block/sdb",
            f"{disk}/sda1/holders/md0": "/sys/devices/virtual/block/md0",
        },
    )
    found = grip(files, function())
    assert (found.members, found.words) == (("sda1 of md0",), ("sda1 is part of md0",))


def test_of_what_must_not_be_read_only_the_module_is_told() -> None:
    files = modules({"a": (3, "")})
    files.put(f"{FOLDER}/graphics/fb0/dev", "29:0\n")
    found = grip(files, function(driver="gpu", readable=False))
    assert found == Grip(address=CARD, modules=(Module(name="a", refcount=3),))


def test_a_simulated_host() -> None:
    host = SimulatedHost("desktop")
    host.kernel.modprobe(["nvidia"])
    functions = observe_functions(host.files)
    found = grips(host.files, functions.values())
    assert set(found) == set(functions)
    boot = found["0000:0b:00.0"]
    assert (boot.framebuffers, boot.consoles) == (("fb0",), ("vtcon1",))
    assert found["0000:01:00.0"].framebuffers == ()
    host.kernel.hold("0000:0b:00.1", pid=5, command="mpv", uid=0, cgroup="/")
    assert grip(host.files, functions["0000:0b:00.1"]).streams == (
        Stream(node="pcmC1D0p", state="RUNNING", pid=5),
    )
