"""The control group of a domain: systemd-machined's scope, in which libvirt makes groups for the threads.

Where its process says (/proc/PID/cgroup; its pid is in a file of libvirt's). Where that is not there: by the name of
the scope, which is machine-qemu-NUMBER-NAME with systemd's escapes (virSystemdMakeScopeName).
"""

from __future__ import annotations

import re

from hostlerd.host import Files
from hostlerd.model.isolation import CGROUPS, Groups
from hostlerd.observe.reading import number, text
from hostlerd.observe.threads import PIDS

_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_SCOPE = re.compile(r"machine-qemu-[0-9]+-(.+)\.scope")


def scope_of(files: Files, groups: Groups, domain: str) -> str | None:
    """Its folder; None where there is none."""
    pid = number(files, f"{PIDS}/{domain}.pid")
    lines = (text(files, f"/proc/{pid}/cgroup") or "").splitlines() if pid else []
    found = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
    parts = found.split("/")
    ends = [index for index, part in enumerate(parts) if part.endswith(".scope")]
    if ends:
        return f"{CGROUPS}{'/'.join(parts[: ends[0] + 1])}"
    return next((g.path for g in groups.units if g.is_domain and g.path and _name(g.unit) == domain), None)


def _name(unit: str) -> str:
    match = _SCOPE.fullmatch(_ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), unit))
    return match[1] if match else ""
