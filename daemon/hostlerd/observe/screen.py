"""The boot framebuffer: who drives the screen that the firmware set up, and on which card's memory it sits.

Rules. No driver's name is known here: efifb, vesafb, simplefb, simpledrm and whatever comes sit on a platform device
that has a frame buffer or a DRM device below it. Whose memory that is says its place in the tree of devices (a child of
the card, since Linux 6.9 or so: drivers/firmware/sysfb.c), else /proc/iomem: somebody who is no PCI function has a part
of the card's memory. Nothing that is read here takes a device lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hostlerd.host import Files
from hostlerd.model.devices import DEVICES, Function
from hostlerd.model.holders import BootFramebuffer
from hostlerd.model.memory import memory
from hostlerd.observe.reading import link_name, names, text

PLATFORM = "/sys/bus/platform/devices"
_SCREENS = ("graphics", "drm")
_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def boot_framebuffer(files: Files, function: Function) -> BootFramebuffer | None:
    """The one on this function's memory; for display functions only."""
    if not function.is_display or not function.readable or function.on_vfio:
        return None
    for device, driver in _platform_screens(files):
        below = _card_above(files, device)
        if below == function.address or (below is None and _is_shared(files, function)):
            return BootFramebuffer(
                device=device,
                driver=driver,
                memory=memory(text(files, f"{DEVICES}/{function.address}/resource")),
                framebuffers=tuple(sorted(names(files, f"{PLATFORM}/{device}/graphics"))),
            )
    return None


def platform_driver(files: Files, device: str) -> str | None:
    """Of a platform device; empty where it has none, None where there is no such device."""
    if not files.exists(f"{PLATFORM}/{device}"):
        return None
    return link_name(files, f"{PLATFORM}/{device}/driver") or ""


def _platform_screens(files: Files) -> Iterator[tuple[str, str]]:
    """(device, driver)."""
    for device in sorted(names(files, PLATFORM)):
        driver = platform_driver(files, device)
        if driver and any(files.exists(f"{PLATFORM}/{device}/{kind}") for kind in _SCREENS):
            yield device, driver


def _card_above(files: Files, device: str) -> str | None:
    try:
        way = files.readlink(f"{PLATFORM}/{device}").split("/")
    except OSError:
        return None
    return next((part for part in reversed(way) if _ADDRESS.fullmatch(part)), None)


def _is_shared(files: Files, function: Function) -> bool:
    """Whether a part of its memory is somebody's who is neither a PCI function nor its own driver.

    Lines are indented by how deep they are; without root all addresses are zero, and the names are there.
    """
    inside = -1
    for line in (text(files, "/proc/iomem") or "").splitlines():
        depth = len(line) - len(line.lstrip())
        name = line.partition(" : ")[2].strip()
        if inside >= 0 and depth > inside:
            if not _ADDRESS.fullmatch(name) and name not in (function.driver, function.module):
                return True
            continue
        inside = depth if name == function.address else -1
    return False
