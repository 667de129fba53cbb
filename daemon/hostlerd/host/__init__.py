"""The seam to the world, low on purpose: read, list and readlink under a root; write through a process that may be
abandoned; call libvirt; call systemd; be told that something changed.

Rules: nothing here decides, nothing here knows policy. The protocols below have three makers: the live host, a recorded
host (a directory or tar file; `Files` alone) and the simulated host, which answers writes as the kernel does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, TypeVar

from hostlerd.model.cpuset import CpuSet
from hostlerd.model.domains import Definition, Running
from hostlerd.model.holders import Container
from hostlerd.model.usb import UsbDevice

T = TypeVar("T")

DeviceNumber: TypeAlias = "tuple[Literal['c', 'b'], int, int]"
"""Character or block device, major, minor: what a node is, whatever it is called."""


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

    def folders(self, path: str) -> list[str]:
        """The folders in a folder, without links to any."""
        ...

    def links(self, path: str) -> Mapping[str, str]:
        """Name to target of the links in a folder, all at once; those that go away meanwhile are left out."""
        ...

    def device(self, path: str) -> DeviceNumber | None:
        """What the node at `path` is, links followed; None for what is no node, and in a recording. Raises no OSError.

        Asks the file system it is on, which may not answer (a network that is away).
        """
        ...

    def executable(self, path: str) -> bool | None:
        """May it be run? None in a recording, which keeps no modes, and for what is not there. Raises no OSError."""
        ...

    def lines_with(self, path: str, words: Sequence[str]) -> list[str]:
        """The lines of a file that have one of these words in them, however long it is."""
        ...


class Writer(Protocol):
    """Writes that may block, each bounded, and the few reads that wake a device or wait for its driver."""

    async def write(self, path: str, text: str, *, limit: float) -> None:
        """Write `text` to a kernel file in a process of its own.

        Raises OSError as the kernel answered, and hostler.errors.Wedged when it did not return within `limit` seconds
        (the process is left behind; the caller degrades the object).
        """
        ...

    async def read(self, path: str, *, size: int, limit: float) -> bytes:
        """At most `size` bytes (4096 and no more) of a kernel file. Raises OSError and Wedged like `write`."""
        ...

    async def run(self, command: Sequence[str], *, limit: float) -> int:
        """Run a program (modprobe) and return its exit status. Raises Wedged like `write`."""
        ...

    async def start(self) -> int:
        """Have the process ready and return its pid (0 where there is none), so that it can be journalled."""
        ...

    async def wait_ended(self, pid: int) -> None:
        """Until the writer process `pid` is gone: one that was left behind, by this daemon or an earlier one.

        Whatever it had begun has then returned from the kernel, also what a program it ran had.
        """
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

    async def set_partition(self, unit: str, kind: str) -> bool:
        """CPUSetPartition= (runtime). False where systemd knows no such thing, or does not do it; never raises."""
        ...

    async def write(self, path: str, text: str, *, limit: float) -> None:
        """Have systemd write to a file of the kernel: what asks for CAP_SYS_ADMIN, which the daemon has not.

        What came of it has to be read from the file. Raises HostFailed.
        """
        ...

    async def states(self, units: Sequence[str]) -> Mapping[str, str]:
        """ActiveState of each; one that there is not is left out. Raises HostFailed, Unreachable."""
        ...

    async def stop_unit(self, unit: str, *, limit: float) -> None:
        """Returns when it is inactive or failed. Raises HostFailed when it is not within `limit` seconds."""
        ...

    async def start_unit(self, unit: str) -> None:
        """Start it, whatever limit of starts it has run into; returns when it is active. Raises HostFailed."""
        ...

    async def enter_scope(
        self, name: str, *, slice_: str, pid: int, start: int, uid: int, cpus: CpuSet, description: str
    ) -> None:
        """Make a scope with AllowedCPUs in a slice, of the process that began at `start` (clock ticks after boot).

        Returns when that is in it. Raises HostFailed.
        """
        ...


class Processes(Protocol):
    async def move_thread(self, pid: int, start: int, cpus: CpuSet) -> None:
        """Let a thread of the kernel run on these CPUs alone. Raises OSError; ProcessLookupError if it has ended."""
        ...

    async def tell_balancer(self, socket: str, cpus: str | None) -> None:
        """Tell irqbalance which CPUs to keep off (host/irqbalance). Raises HostFailed, TimedOut."""
        ...

    async def terminate(self, pid: int, start: int | None, *, limit: float) -> bool:
        """SIGTERM, and SIGKILL after `limit` seconds, to the process that began at `start` (clock ticks after boot).

        False if it is there `limit` seconds after that. Raises HostFailed where it may not be ended.
        """
        ...


class Engines(Protocol):
    """Container engines: each asked in its own way, each bounded."""

    async def names(self, containers: Iterable[Container]) -> Mapping[Container, str]:
        """What the engines call them. One that does not answer, or is not there, tells nothing."""
        ...

    async def stop(self, container: Container, *, seconds: float) -> None:
        """Ask it to end, and kill it after `seconds`. One that is stopped is fine.

        Raises hostler.errors.HostFailed with the engine's words, Unreachable and TimedOut.
        """
        ...

    async def start(self, container: Container) -> None:
        """Raises like `stop`."""
        ...


class Hypervisor(Protocol):
    """libvirt: one call at a time, each bounded. All raise hostler.errors.Unreachable or HostFailed."""

    async def running(self) -> tuple[Running, ...]:
        """All active domains, live and inactive XML."""
        ...

    async def inactive(self) -> tuple[Definition, ...]:
        """Persistent domains that do not run."""
        ...

    async def version(self) -> int:
        """Of libvirt: 10001002 for 10.1.2 (virConnectGetLibVersion)."""
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

    async def attach_usb(self, uuid: str, device: UsbDevice) -> Definition:
        """Give the device, with its mark, to the running domain. Returns what the domain then is."""
        ...

    async def detach_usb(self, uuid: str, device: UsbDevice) -> Definition:
        """Take it back, whether it is still plugged in or not. Returns what the domain then is."""
        ...


class Lock(Protocol):
    def release(self) -> None:
        """Let go of it. Nothing happens the second time."""
        ...


class Sleep(Protocol):
    """The host's own sleep. Nothing here raises: where nobody keeps it, no lock is had and nothing is heard."""

    async def lock(self, mode: Literal["delay", "block"], why: str) -> Lock | None:
        """Delay it, by a few seconds at most, or have it refused with `why`, until the lock is released."""
        ...

    async def is_near(self) -> bool:
        """From a moment before the host sleeps until it is awake again."""
        ...

    def listen(self, kick: Kick) -> None:
        """Called, from now on, whenever that changed or may have."""
        ...


class Pressure(Protocol):
    """Who waits for CPUs. Nothing here raises."""

    async def wait_starved(self, group: str) -> None:
        """Until tasks of this control group have waited for a CPU too much.

        For ever where the kernel does not tell; the group may appear meanwhile, and go.
        """
        ...


class Host(Protocol):
    """All of them, and a way to look that cannot hang the loop."""

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
    def processes(self) -> Processes: ...

    @property
    def engines(self) -> Engines: ...

    @property
    def hypervisor(self) -> Hypervisor: ...

    @property
    def sleep(self) -> Sleep: ...

    @property
    def pressure(self) -> Pressure: ...


Kick = Callable[[], None]
"""Something changed: look again. Carries nothing on purpose; may be called from any place in the trio thread."""
