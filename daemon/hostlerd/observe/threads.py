"""Where the kernel lets the threads of a domain run: what came of a pin, whatever libvirt shows.

QEMU names its threads (libvirt starts it with -name debug-threads=on): "CPU 0/KVM" or "CPU 0/TCG" (accel/kvm,
accel/tcg), "IO iothread1"; the emulator is the process's own. Its pid is in a file of libvirt's (virPidFileBuildPath).
Cpus_allowed_list: proc(5). A thread that is not found is not known, which is no error: a domain may just be ending.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from hostlerd.host import Files
from hostlerd.model.cpuset import CpuSet, parse_cpu_list
from hostlerd.model.domains import Running
from hostlerd.model.observed import Observed
from hostlerd.observe.reading import names, number, text

PIDS = "/run/libvirt/qemu"
KEEPS_PINS = (6, 2)
"""From this Linux on a thread keeps its pin when its cpuset changes (da019032819a)."""

_VCPU = re.compile(r"CPU ([0-9]+)/(?:KVM|TCG)")
_IOTHREAD = re.compile(r"IO iothread([0-9]+)")
_ALLOWED = re.compile(r"^Cpus_allowed_list:\s*(\S+)$", re.MULTILINE)

Thread = tuple[str, int]
"""("vcpu" | "iothread" | "emulator", its number), as a pin has it."""


def affinities(files: Files, domain: str) -> Mapping[Thread, CpuSet]:
    """Of each thread of this running domain that libvirt can pin."""
    found = {thread: _allowed(files, folder) for thread, folder in _threads(files, domain)}
    return {thread: allowed for thread, allowed in found.items() if allowed is not None}


def affinity_of(files: Files, domain: str, thread: Thread) -> CpuSet | None:
    """Of one of them; no more is read than it takes to find it."""
    folder = next((folder for found, folder in _threads(files, domain) if found == thread), None)
    return None if folder is None else _allowed(files, folder)


def _threads(files: Files, domain: str) -> Iterator[tuple[Thread, str]]:
    """With the folder of each."""
    pid = number(files, f"{PIDS}/{domain}.pid")
    for tid in names(files, f"/proc/{pid}/task") if pid else ():
        folder = f"/proc/{pid}/task/{tid}"
        thread = ("emulator", 0) if tid == str(pid) else _thread(text(files, f"{folder}/comm") or "")
        if thread is not None:
            yield thread, folder


def _thread(comm: str) -> Thread | None:
    if match := _VCPU.fullmatch(comm):
        return "vcpu", int(match[1])
    if match := _IOTHREAD.fullmatch(comm):
        return "iothread", int(match[1])
    return None


def _allowed(files: Files, folder: str) -> CpuSet | None:
    match = _ALLOWED.search(text(files, f"{folder}/status") or "")
    try:
        return parse_cpu_list(match[1]) if match else None
    except ValueError:
        return None


def observe_affinity(
    files: Files, observed: Observed, running: Iterable[Running]
) -> Mapping[str, Mapping[int, CpuSet]]:
    """Observed.affinity: of the domains that we pinned, on a kernel that may have forgotten it."""
    if not (0, 0) < observed.kernel < KEEPS_PINS:
        return {}
    return {
        domain.uuid: {
            index: cpus for (kind, index), cpus in affinities(files, domain.name).items() if kind == "vcpu"
        }
        for domain in running
        if domain.uuid in observed.ledger.pins
    }
