"""hostler's own installation, and libvirt's.

libvirt's version without asking libvirt: its library is called libvirt.so.0.9000.0 for 9.0.0 (meson.build,
libvirt_lib_version: 1000 * major + minor, then the release).
"""

from __future__ import annotations

import re
from typing import Literal

from hostler.wire import RUNTIME_DIRECTORY, SOCKET_NAME
from hostlerd.model.checkup import Installation
from hostlerd.observe.checkup.careful import Careful
from hostlerd.observe.checkup.rivals import HOOKS, OURS

LIBVIRT = "/etc/libvirt"
LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
ENABLED = "/etc/systemd/system/sockets.target.wants"
SOCKETS = frozenset({"libvirtd.socket", "virtqemud.socket"})

_LIBRARY = re.compile(r"libvirt\.so\.0\.(\d+)\.(\d+)")


def observe_installation(
    careful: Careful,
    programs: frozenset[str],
    *,
    answers: bool,
    policy: str,
    libvirt: int | None,
) -> Installation:
    """`answers`: it is the daemon that asks. `policy`: what is wrong with it. `libvirt`: its version, if it said it."""
    return Installation(
        hook=_hook(careful),
        runtime=answers or careful.exists(RUNTIME_DIRECTORY),
        socket=answers or careful.exists(f"{RUNTIME_DIRECTORY}/{SOCKET_NAME}"),
        answers=answers,
        libvirt=_version(careful) if libvirt is None else libvirt,
        daemons=frozenset({"libvirtd", "virtqemud"}) & programs,
        sockets=SOCKETS.intersection(careful.names(ENABLED) or ()),
        policy=policy,
    )


def _hook(careful: Careful) -> Literal["there", "absent", "not executable"] | None:
    if careful.files.exists(OURS):
        return "not executable" if careful.files.executable(OURS) is False else "there"
    # Who has no libvirt in /etc has none, or a recording has left it out; a folder that is closed hides its files.
    if not careful.names(LIBVIRT):
        return None
    unread = len(careful.unread)
    careful.names(HOOKS)
    return None if len(careful.unread) > unread or HOOKS in careful.unread else "absent"


def _version(careful: Careful) -> int | None:
    for folder in LIBRARIES:
        try:
            match = _LIBRARY.search(careful.files.readlink(f"{folder}/libvirt.so.0"))
        except OSError:
            continue
        if match is not None:
            major, minor = divmod(int(match[1]), 1000)
            return major * 1_000_000 + minor * 1_000 + int(match[2])
    return None
