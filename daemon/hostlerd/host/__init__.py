"""The seam to the world, low on purpose: read, list and readlink under a root; write through a process that may be
abandoned; call libvirt; call systemd; be told that something changed.

Rules: nothing here decides, nothing here knows policy. The protocols below have three makers: the live host, a recorded
host (a directory or tar file; `Files` alone) and the simulated host, which answers writes as the kernel does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from hostlerd.model.cpuset import CpuSet
from hostlerd.model.domains import Definition, Running

T = TypeVar("T")


class Files(Protocol):
    """Reading under a root. Paths are absolute, as on the live host ("/sys/bus/pci/devices").

    Synchronous: observers run in a thread that may be abandoned. All raise OSError (FileNotFoundError and kin).
    """

    def read(self, path: str) -> str:
        """The text of a file, undecodable bytes replaced, at most 1 MiB."""
        ...

    def listdir(self, path: str) -> list[str]: ...

    def readlink(self, path: str) -> str:
        """The target as stored in the link."""
        ...

    def exists(self, path: str) -> bool:
        """Follows links; a broken link does not exist."""
        ...


class Writer(Protocol):
    """Writes that may block, each bounded."""

    async def write(self, path: str, text: str, *, limit: float) -> None:
        """Write `text` to a kernel file in a process of its own.

        Raises OSError as the kernel answered, and hostler.errors.Wedged when it did not return within `limit` seconds
        (the process is left behind; the caller degrades the object).
        """
        ...

    async def run(self, command: Sequence[str], *, limit: float) -> int:
        """Run a program (modprobe) and return its exit status. Raises Wedged like `write`."""
        ...

    async def start(self) -> int:
        """Have the process ready and return its pid (0 where there is none), so that it can be journalled."""
        ...

    async def aclose(self) -> None:
        """End the processes that wait for more writes; the next write starts another."""
        ...

    async def replace_file(self, path: str, text: str | None) -> None:
        """Put an ordinary file in place atomically, or remove it (None); missing folders are made. Raises OSError."""
        ...


class Units(Protocol):
    """systemd, through its D-Bus API."""

    async def allowed_cpus(self, units: Sequence[str]) -> Mapping[str, CpuSet]:
        """AllowedCPUs of each unit that is loaded; empty where it is not set."""
        ...

    async def set_allowed_cpus(self, unit: str, cpus: CpuSet) -> None:
        """SetUnitProperties(runtime). Raises hostler.errors.HostFailed with systemd's words."""
        ...


class Hypervisor(Protocol):
    """libvirt: one call at a time, each bounded. All raise hostler.errors.Unreachable or HostFailed."""

    async def running(self) -> tuple[Running, ...]:
        """All active domains, live and inactive XML."""
        ...

    async def inactive(self) -> tuple[Definition, ...]:
        """Persistent domains that do not run."""
        ...

    async def pin_vcpu(self, uuid: str, vcpu: int, cpus: CpuSet) -> None: ...

    async def pin_emulator(self, uuid: str, cpus: CpuSet) -> None: ...

    async def pin_iothread(self, uuid: str, iothread: int, cpus: CpuSet) -> None: ...

    async def definition_xml(self, uuid: str) -> str:
        """The inactive XML of a persistent domain, with its passwords: what `redefine` may be given back."""
        ...

    async def redefine(self, uuid: str, xml: str) -> None:
        """Make this the definition of a domain that has one. What runs is not touched. libvirt checks the XML."""
        ...

    async def plug(self, uuid: str, device: str) -> None:
        """Plug a device, given as XML, into the running domain; its definition stays."""
        ...

    async def unplug(self, uuid: str, device: str) -> None:
        """Ask the running guest to let go of the device; it may take its time. The definition stays."""
        ...


class Host(Protocol):
    """The four of them, and a way to look that cannot hang the loop."""

    async def look(self, read: Callable[[], T], *, limit: float) -> T:
        """Run a reading function: in a thread that may be abandoned where reading may block.

        Raises hostler.errors.TimedOut.
        """
        ...

    @property
    def files(self) -> Files: ...

    @property
    def writer(self) -> Writer: ...

    @property
    def units(self) -> Units: ...

    @property
    def hypervisor(self) -> Hypervisor: ...


Kick = Callable[[], None]
"""Something changed: look again. Carries nothing on purpose; may be called from any place in the trio thread."""
