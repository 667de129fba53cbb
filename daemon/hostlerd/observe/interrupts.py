"""Interrupts by number, and who they are for.

Rules: what /proc/irq lists with an affinity; /proc/interrupts is a table for people and costs a column a CPU. Numbers
come and go: a name tells whether it is still the same one (Documentation/core-api/irq/irq-affinity.rst).
"""

from __future__ import annotations

import re

from hostlerd.host import Files
from hostlerd.model.tuning import Balancer, Interrupt
from hostlerd.observe.reading import names, text

IRQS = "/proc/irq"
ACTIONS = "/sys/kernel/irq"
BALANCER = "/run/irqbalance"
_VFIO = re.compile(r"vfio-\w+(?:\[\d+\])?\(([0-9a-f:.]+)\)")
_SOCKET = re.compile(r"irqbalance(\d+)\.sock")


def observe_interrupts(files: Files) -> tuple[Interrupt, ...]:
    found: list[Interrupt] = []
    for entry in names(files, IRQS):
        if not entry.isdecimal() or not files.exists(f"{IRQS}/{entry}/smp_affinity_list"):
            continue
        name = text(files, f"{ACTIONS}/{entry}/actions")
        if name is None:  # a kernel without sparse interrupts: a folder for each that uses it
            name = ",".join(sorted(n for n in names(files, f"{IRQS}/{entry}") if n not in _FILES))
        if not name:
            continue  # nobody uses it
        match = _VFIO.search(name)
        found.append(Interrupt(number=int(entry), name=name, function=match[1] if match else None))
    return tuple(sorted(found, key=lambda interrupt: interrupt.number))


_FILES = (
    *("affinity_hint", "effective_affinity", "effective_affinity_list", "node"),
    *("smp_affinity", "smp_affinity_list", "spurious"),
)


def observe_balancer(files: Files) -> Balancer | None:
    """irqbalance by its socket, which since 1.9 is a file and before was abstract (irqbalance.c, init_socket)."""
    for entry in names(files, BALANCER):
        match = _SOCKET.fullmatch(entry)
        if match and _is_balancer(files, match[1]):
            return Balancer(pid=int(match[1]), socket=f"{BALANCER}/{entry}")
    pid = next((p for p in names(files, "/proc") if p.isdecimal() and _is_balancer(files, p)), None)
    if pid is None:
        return None
    abstract = f"@irqbalance{pid}.sock"
    listening = any(line.endswith(abstract) for line in (text(files, "/proc/net/unix") or "").splitlines())
    return Balancer(pid=int(pid), socket=abstract if listening else "")


def _is_balancer(files: Files, pid: str) -> bool:
    """By its name, which everybody may have, and its user."""
    if text(files, f"/proc/{pid}/comm") != "irqbalance":
        return False
    lines = (text(files, f"/proc/{pid}/status") or "").splitlines()
    return any(line.split()[:2] == ["Uid:", "0"] for line in lines)
