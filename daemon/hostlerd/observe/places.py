"""Where a process runs, from its control group: unit, login session, container.

Rules: the outermost container counts, since that is the one an engine of this host knows; a unit inside it is not the
host's. How engines name control groups: moby daemon/oci_linux.go, containers/podman libpod (`libpod-payload-` with
`--cgroups=split`, as quadlets have it), cri-o and containerd for Kubernetes, lxc.container.conf(5), systemd-nspawn(1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNIT = re.compile(r".+\.(?:service|scope|mount|socket|swap)")
_MANAGER = re.compile(r"user@\d+\.service")
_SESSION = re.compile(r"session-(\w+)\.scope")
_CONTAINERS = (
    ("docker", re.compile(r"docker-([0-9a-f]{12,64})\.scope")),
    ("podman", re.compile(r"libpod-(?:payload-)?([0-9a-f]{12,64})(?:\.scope)?")),
    ("cri-o", re.compile(r"crio-([0-9a-f]{12,64})(?:\.scope)?")),
    ("containerd", re.compile(r"(?:cri-containerd|nerdctl)-([0-9a-f]{12,64})\.scope")),
    ("buildkit", re.compile(r"buildkit-([0-9a-z]{12,64})\.scope")),
    ("lxc", re.compile(r"lxc\.payload\.(.+)")),
    ("nspawn", re.compile(r"systemd-nspawn@(.+)\.service")),
    # machined's scope of what systemd-nspawn was started for by hand; libvirt's domains have such scopes, too.
    ("nspawn", re.compile(r"machine-(?!qemu\\x2d|lxc\\x2d|ch\\x2d|libpod)(.+)\.scope")),
)
_BARE = re.compile(r"[0-9a-f]{64}")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """See model.holders.Holder for each."""

    unit: str | None = None
    manager: str | None = None
    session: str | None = None
    container: str | None = None
    engine: str | None = None


def place(cgroup: str) -> Place:
    """From the text of /proc/PID/cgroup; of cgroup v1, systemd's own hierarchy counts."""
    paths = [line.partition(":")[2].partition(":") for line in cgroup.splitlines()]
    chosen = next((path for controllers, _, path in paths if controllers in ("", "name=systemd")), "")
    unit = manager = session = None
    above = ""
    for part in chosen.split("/"):
        engine, container = _container(part, above, chosen)
        if _UNIT.fullmatch(part):
            manager = unit if unit is not None and _MANAGER.fullmatch(unit) else manager
            unit = part
            match = _SESSION.fullmatch(part)
            session = match[1] if match else session
        if container is not None:
            return Place(unit=unit, manager=manager, session=session, container=container, engine=engine)
        above = part
    return Place(unit=unit, manager=manager, session=session)


def _container(part: str, above: str, path: str) -> tuple[str | None, str | None]:
    """Engine and container that this part of a path begins, if it does. `above`: the part before it."""
    for engine, pattern in _CONTAINERS:
        match = pattern.fullmatch(part)
        if match:
            return engine, _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), match[1])
    if above == "lxc" and part:
        return "lxc", part
    if _BARE.fullmatch(part):  # drivers that make control groups without systemd
        if above == "docker":
            return "docker", part
        if "/kubepods" in path:
            return "kubernetes", part
        return "containerd", part
    return None, None
