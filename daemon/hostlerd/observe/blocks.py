"""Block devices: what is built on them, and what the kernel itself has them open for.

A mounted file system, swap space and a device-mapper or RAID member have no file in any process. (block/holder.c:
`holders`; proc(5): mountinfo, swaps.)
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlerd.host import DeviceNumber, Files
from hostlerd.observe.mounts import mounts
from hostlerd.observe.reading import names, text

_CLASS = "/sys/class/block"


def number_of(files: Files, name: str) -> DeviceNumber | None:
    return number("b", text(files, f"{_CLASS}/{name}/dev"))


def number(kind: str, dev: str | None) -> DeviceNumber | None:
    """The text of a `dev` attribute, "226:0"."""
    major, colon, minor = (dev or "").partition(":")
    if not colon or not major.isdecimal() or not minor.isdecimal():
        return None
    return ("b" if kind == "b" else "c"), int(major), int(minor)


def built_on(files: Files, name: str) -> list[str]:
    """Names of the block devices on top of this one, nearest first: dm-0, md127."""
    found: dict[str, None] = {}
    todo = [name]
    while todo:
        above = [one for one in names(files, f"{_CLASS}/{todo.pop(0)}/holders") if one not in found]
        found |= dict.fromkeys(above)
        todo += above
    return list(found)


def partitions(files: Files, name: str) -> list[str]:
    return [part for part in names(files, f"{_CLASS}/{name}") if part.startswith(name)]


def kernel_uses(files: Files) -> Iterator[tuple[DeviceNumber | None, str, str]]:
    """(number, path, "mounted at /home" or "swap"). The number may be a file system's own (btrfs): then the path tells.

    As the first process sees it, whose mounts the daemon's own unit may hide from it.
    """
    for mount in list(mounts(files, "1")) or list(mounts(files, "self")):
        yield mount.number, mount.source, f"mounted at {mount.point}"
    for line in (text(files, "/proc/swaps") or "").splitlines()[1:]:
        path = line.split(maxsplit=1)[0] if line.strip() else ""
        if path.startswith("/dev/"):
            yield files.device(path), path, "swap"
