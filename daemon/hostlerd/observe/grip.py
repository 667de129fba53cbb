"""What keeps a function busy and shows in no process: module references, the console, sound, networks, block devices.

Rules: looked at only for functions that are about to be handed over or shown. Of the function itself only links and the
names of folders are read, never an attribute, so that a stuck one cannot hang this; of one that must not be read, its
driver's module alone. A frame buffer console's `bind` takes the console's lock, so it is read last, and only where the
function has a frame buffer (drivers/tty/vt/vt.c, show_bind).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from hostlerd.host import Files
from hostlerd.model.devices import DEVICES, Function
from hostlerd.model.holders import Grip, Module, Network, Stream
from hostlerd.observe import blocks
from hostlerd.observe.nodes import ADDRESS
from hostlerd.observe.pci import DRIVERS
from hostlerd.observe.reading import link_name, names, number, text, to_number
from hostlerd.observe.screen import boot_framebuffer

MODULES = "/sys/module"
CONSOLES = "/sys/class/vtconsole"

_UP = 0x1
"""IFF_UP (netdevice(7))."""
_CARD, _STREAM = re.compile(r"card(\d+)"), re.compile(r"pcm\d+[pc]")
_OWNER = re.compile(r"owner_pid\s*:\s*(\d+)")
_MOST = 256
"""Steps up from a module to its users."""
_LINK_LOCAL = "20"
"""Scope of an address that says nothing about whether a network is in use (proc/net/if_inet6)."""


def grips(files: Files, functions: Iterable[Function]) -> Mapping[str, Grip]:
    """Address to what keeps it busy."""
    return {function.address: grip(files, function) for function in functions}


def grip(files: Files, function: Function) -> Grip:
    folder = f"{DEVICES}/{function.address}"
    modules = tuple(_modules(files, _module(files, function.driver)))
    if not function.readable:
        return Grip(address=function.address, modules=modules)
    boot = boot_framebuffer(files, function)
    own = names(files, f"{folder}/graphics")
    framebuffers = tuple(sorted((*own, *(boot.framebuffers if boot is not None else ()))))
    return Grip(
        address=function.address,
        modules=modules,
        framebuffers=framebuffers,
        streams=tuple(_streams(files, folder)),
        networks=tuple(_network(files, name) for name in sorted(names(files, f"{folder}/net"))),
        members=tuple(_members(files, folder)),
        consoles=tuple(_consoles(files)) if framebuffers else (),
        boot=boot,
    )


def _module(files: Files, driver: str | None) -> str | None:
    return link_name(files, f"{DRIVERS}/{driver}/module") if driver is not None else None


def _modules(files: Files, name: str | None) -> Iterator[Module]:
    """The module and all that use it, each after its users."""
    found: dict[str, Module] = {}
    todo = [name] if name is not None else []
    for _ in range(_MOST):  # a recording may have a ring of them
        if not todo:
            break
        one = todo.pop()
        count = number(files, f"{MODULES}/{one}/refcnt")
        users = tuple(sorted(names(files, f"{MODULES}/{one}/holders")))
        if count is not None:  # else it is built in, and stays
            found.pop(one, None)
            found[one] = Module(name=one, refcount=count, used_by=users)
        todo += users
    yield from reversed(found.values())


def _consoles(files: Files) -> Iterator[str]:
    for name in sorted(names(files, CONSOLES)):
        label = text(files, f"{CONSOLES}/{name}/name") or ""
        if "frame buffer" in label and number(files, f"{CONSOLES}/{name}/bind") == 1:
            yield name


def _streams(files: Files, folder: str) -> Iterator[Stream]:
    """Streams that are not closed (Documentation/sound/designs/procfile.rst)."""
    for card in names(files, f"{folder}/sound"):
        match = _CARD.fullmatch(card)
        for stream in names(files, f"/proc/asound/{card}") if match else ():
            if match is None or not _STREAM.fullmatch(stream):
                continue
            for sub in sorted(names(files, f"/proc/asound/{card}/{stream}")):
                status = text(files, f"/proc/asound/{card}/{stream}/{sub}/status")
                if status is None or status == "closed":
                    continue
                state = status.partition("\n")[0].partition(":")[2].strip() or "OPEN"
                owner = _OWNER.search(status)
                yield Stream(
                    node=f"pcmC{match[1]}D{stream.removeprefix('pcm')}",
                    state=state,
                    pid=int(owner[1]) if owner else None,
                )


def _network(files: Files, name: str) -> Network:
    flags = number(files, f"/sys/class/net/{name}/flags", 16) or 0
    old, new = list(_routes(files)), list(_routes6(files))
    return Network(
        name=name,
        up=bool(flags & _UP),
        addressed=any(route == name for route, _ in old) or name in _addresses6(files),
        default_route=(name, True) in old or (name, True) in new,
        master=link_name(files, f"/sys/class/net/{name}/master"),
    )


def _routes(files: Files) -> Iterator[tuple[str, bool]]:
    """(interface, is it the way to everywhere) of each IPv4 route. Whatever has an address has a route."""
    for line in (text(files, "/proc/net/route") or "").splitlines()[1:]:
        words = line.split()
        if len(words) > 7:
            yield words[0], words[1] == words[7] == "00000000"


def _routes6(files: Files) -> Iterator[tuple[str, bool]]:
    for line in (text(files, "/proc/net/ipv6_route") or "").splitlines():
        words = line.split()
        if len(words) > 9:
            yield words[9], to_number(words[0], 16) == 0 and words[1] == "00"


def _addresses6(files: Files) -> frozenset[str]:
    rows = (line.split() for line in (text(files, "/proc/net/if_inet6") or "").splitlines())
    return frozenset(row[5] for row in rows if len(row) > 5 and row[3] != _LINK_LOCAL)


def _members(files: Files, folder: str) -> Iterator[str]:
    """Disks and partitions below the function that others are built on."""
    for disk in sorted(_disks(files, folder)):
        for name in (disk, *sorted(blocks.partitions(files, disk))):
            above = sorted(blocks.built_on(files, name))
            if above:
                yield f"{name} of {', '.join(above)}"


def _disks(files: Files, folder: str) -> set[str]:
    """By the links of the class, which say where each one is."""
    address = folder.rpartition("/")[2]
    found: set[str] = set()
    for name in names(files, "/sys/class/block"):
        try:
            target = files.readlink(f"/sys/class/block/{name}")
        except OSError:
            continue
        behind = [part for part in target.split("/") if ADDRESS.fullmatch(part)]
        if behind and behind[-1] == address and not files.exists(f"/sys/class/block/{name}/partition"):
            found.add(name)
    return found
