"""Who has a device open: by program for people who want to close it, by process for those who look for one."""

from __future__ import annotations

import re

from hostler.render.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Holder = Mapping[str, object]

_MOST = 3
_DOMAIN = re.compile(r"machine-qemu(?:-|\\x2d)\d+(?:-|\\x2d)(.+)\.scope")
"""machined's scope of a libvirt domain."""
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_KERNEL = "kernel: "


def by_program(holders: Sequence[Holder]) -> str:
    """`Xorg (display-manager), steam x 3 (ann), the host (mounted at /home)`."""
    seen: dict[str, set[object]] = {}
    for holder in holders:
        seen.setdefault(_program(holder), set()).add(holder.get("pid"))
    return _few([f"{_times(word, len(pids))}" for word, pids in seen.items()])


def _times(word: str, times: int) -> str:
    program, space, place = word.partition(" (")
    return f"{program} x {times}{space}{place}" if times > 1 else word


def _program(holder: Holder) -> str:
    command = clean(holder.get("command"))
    if command.startswith(_KERNEL):
        return f"the host ({command.removeprefix(_KERNEL)})"
    unit = clean(holder.get("unit"), nothing="")
    domain = domain_of(holder)
    if domain:
        return f"domain {domain}"
    container = (
        clean(holder.get("container_name"), nothing="") or clean(holder.get("container"), nothing="")[:12]
    )
    if container:
        return f"{command} (container)" if container == command else f"{command} (container {container})"
    if unit.endswith(".service"):
        name = unit.removesuffix(".service")
        return command if name == command else f"{command} ({name})"
    return f"{command} ({clean(holder.get('user'))})"


def domain_of(holder: Holder) -> str:
    """The libvirt domain whose QEMU it is; empty if it is none."""
    found = _DOMAIN.fullmatch(clean(holder.get("unit"), nothing=""))
    return _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), found[1]) if found else ""


def by_process(holders: Sequence[Holder]) -> str:
    """`Xorg (7, gdm.service)`; each process once."""
    words: dict[str, None] = {}
    for holder in holders:
        command, domain = clean(holder.get("command")), domain_of(holder)
        place = (
            (f"domain {domain}" if domain else None)
            or holder.get("container_name")
            or holder.get("container")
            or holder.get("unit")
            or holder.get("user")
        )
        is_kernel = command.startswith(_KERNEL)
        words[command if is_kernel else f"{command} ({clean(holder.get('pid'))}, {clean(place)})"] = None
    return _few(list(words))


def _few(words: Sequence[str]) -> str:
    more = len(words) - _MOST
    return ", ".join([*words[:_MOST], f"and {more} more"] if more > 0 else words) or "-"
