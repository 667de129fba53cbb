"""Processes that have a device open: a plain one, one that only mapped it, a unit, a container, a login session.

Each returns once the node is open and has it until `let_go`. Leaving a `with` lets go as well.
"""

import hashlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from .programs import Failed, holds, need, run

# The node is descriptor 3 of a process whose name is sleep. Sound streams are for writing: direction `>`.
_HOLD = 'exec 3{}"$1"; exec sleep infinity'
# Not Python's own mmap, which keeps a descriptor beside the mapping.
_MAP = """\
import ctypes, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
ctypes.CDLL(None).mmap(None, ctypes.c_size_t(4096), 3, 1, fd, ctypes.c_long(0))
os.close(fd)
time.sleep(1e6)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    pid: int
    node: str
    unit: str = ""
    process: subprocess.Popen[bytes] | None = None

    def let_go(self) -> None:
        if self.unit:
            run("systemctl", "stop", self.unit)
        if self.process is not None:
            self.process.kill()
            self.process.wait(30.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()


def opened(pid: int) -> set[str]:
    """The paths of everything a process has open."""
    folder = f"/proc/{pid}/fd"
    return {os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}


def _opened(holder: Holder) -> Holder:
    if not holds(lambda: os.readlink(f"/proc/{holder.pid}/fd/3") == holder.node, 30.0):
        holder.let_go()
        raise Failed(f"{holder} does not open its node")
    return holder


def _shell(node: str, direction: str) -> tuple[str, ...]:
    return "sh", "-c", _HOLD.format(direction), "sh", node


def process(node: str, *, direction: str = "<>", before: Sequence[str] = ()) -> Holder:
    """`before` is put before the command: `("setpriv", "--reuid=nobody", "--clear-groups")`."""
    started = subprocess.Popen([*before, *_shell(node, direction)], stdin=subprocess.DEVNULL)
    return _opened(Holder(pid=started.pid, node=node, process=started))


def mapping(node: str) -> Holder:
    """No descriptor, only a mapping."""
    started = subprocess.Popen(["python3", "-S", "-c", _MAP, node], stdin=subprocess.DEVNULL)
    holder = Holder(pid=started.pid, node=node, process=started)

    def mapped() -> bool:
        with open(f"/proc/{started.pid}/maps", encoding="utf-8") as file:
            return node in file.read() and node not in opened(started.pid)

    if not holds(mapped, 30.0):
        holder.let_go()
        raise Failed(f"{holder} does not map its node")
    return holder


def service(
    node: str, name: str = "lab-holder", *, direction: str = "<>", options: Sequence[str] = ()
) -> Holder:
    """A transient unit NAME.service; `options` are more of systemd-run's."""
    unit = f"{name}.service"
    need("systemd-run", "--collect", f"--unit={unit}", *options, *_shell(node, direction))
    pid = int(need("systemctl", "show", "--value", "-p", "MainPID", unit))
    return _opened(Holder(pid=pid, node=node, unit=unit))


def container(node: str, *, engine: str = "docker", direction: str = "<>") -> Holder:
    """A scope as an engine makes it under systemd: system.slice/docker-<64 digits>.scope, the id from the node's name.

    No such engine is here, so none knows its name.
    """
    unit = f"{engine}-{hashlib.sha256(node.encode()).hexdigest()}.scope"
    scope = ["systemd-run", "--scope", "--collect", "--slice=system.slice", f"--unit={unit}"]
    started = subprocess.Popen(
        [*scope, *_shell(node, direction)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return _opened(Holder(pid=started.pid, node=node, unit=unit, process=started))


def session(node: str, user: str = "root", *, direction: str = "<>") -> Holder:
    """In a login session, which PAM opens and logind lists."""
    return service(
        node, "lab-session", direction=direction, options=("-p", "PAMName=login", "-p", f"User={user}")
    )
