"""Who has a device open, and what keeps it busy that no process shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

HARMLESS = ("/dev/input/", "/dev/bus/usb/")
SOUND_CONTROL = "/dev/snd/control"
SOUND_SERVERS = frozenset({"pipewire", "pipewire-media-", "pipewire-pulse", "pulseaudio", "wireplumber"})
"""As /proc/PID/comm has them, 15 characters."""

KERNEL = 0
"""The pid of a holder that is no process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """`id`: as its engine knows it. `owner`: uid of the user whose rootless engine has it, None for the system's."""

    engine: str
    id: str
    owner: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that has a node of the device open or mapped, or the kernel itself (`pid` 0).

    `unit`: of the host, never one inside a container. `manager`: ``user@1000.service`` where the unit is one of that
    user's own manager. `session`: of logind. `engine`: docker, podman, containerd, cri-o, kubernetes, lxc or nspawn.
    `start`: clock ticks after boot; with the pid it names one process for ever.
    """

    address: str
    pid: int
    command: str
    user: str
    unit: str | None
    container: str | None
    node: str
    session: str | None = None
    manager: str | None = None
    engine: str | None = None
    container_name: str | None = None
    start: int | None = None
    how: Literal["fd", "map", "kernel"] = "fd"

    @property
    def in_container(self) -> Container | None:
        if self.container is None or self.engine is None:
            return None
        uid = (self.manager or "").removeprefix("user@").removesuffix(".service")
        return Container(
            engine=self.engine, id=self.container, owner=int(uid) if uid.isdecimal() and uid != "0" else None
        )

    @property
    def blocks(self) -> bool:
        """Whether a driver's remove() may wait for it.

        Input events and USB nodes never block. The control of a sound card does until it is closed
        (snd_card_disconnect_sync), but sound servers hold every card's and close it when udev says that the card goes.
        """
        if self.node.startswith(SOUND_CONTROL):
            return self.command not in SOUND_SERVERS
        return not self.node.startswith(HARMLESS)

    @property
    def told(self) -> str:
        """Who it is, for people: program, process, user, and where it runs."""
        if self.pid == KERNEL:
            return self.command
        where = f", {self.place}" if self.place != self.user else ""
        return f"{self.command} (process {self.pid}, user {self.user}{where})"

    @property
    def place(self) -> str:
        """Where it runs, for people."""
        if self.container is not None:
            return f"container {self.container_name or self.container[:12]}"
        return self.unit or (f"session {self.session}" if self.session else self.user)


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A loaded module. `refcount` counts the modules in `used_by`, too (module_refcount)."""

    name: str
    refcount: int
    used_by: tuple[str, ...] = ()

    @property
    def references(self) -> int:
        """Open files and kernel clients: what keeps it from being unloaded once its dependents are gone."""
        return self.refcount - len(self.used_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An open PCM stream: ``pcmC1D0p``, ``RUNNING``, and the process that opened it, if it is told."""

    node: str
    state: str
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network interface. `master`: the bridge or bond it is a port of."""

    name: str
    up: bool = False
    addressed: bool = False
    default_route: bool = False
    master: str | None = None

    @property
    def used(self) -> bool:
        return self.up and (self.addressed or self.default_route or self.master is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFramebuffer:
    """A platform device with the screen of the firmware. `memory`: where the card's BARs are (model/memory)."""

    device: str
    driver: str
    memory: str = ""
    framebuffers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grip:
    """What keeps a function busy and is no process with a file.

    `modules`: the driver's and those that use it, in the order in which modprobe -r has to take them, the driver's
    last; empty where it is built in. `consoles`: bound to the frame buffers, and only where the function has one.
    `members`: block devices that others are built on ("nvme0n1p2 of dm-0").
    """

    address: str
    modules: tuple[Module, ...] = ()
    framebuffers: tuple[str, ...] = ()
    consoles: tuple[str, ...] = ()
    streams: tuple[Stream, ...] = ()
    networks: tuple[Network, ...] = ()
    members: tuple[str, ...] = ()
    boot: BootFramebuffer | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """One sentence each, for people; nothing about what harms nobody."""
        return self.told()

    def told(self, *, explained: bool = False) -> tuple[str, ...]:
        """`explained`: processes have devices of its driver open, which are references of the module, too."""
        return tuple(self._told(explained=explained))

    def _told(self, *, explained: bool) -> Iterator[str]:
        if self.consoles:
            yield f"the console is on its screen ({', '.join(self.framebuffers)}, {', '.join(self.consoles)})"
        if self.boot is not None:
            yield f"the boot framebuffer has its screen ({self.boot.driver}, {self.boot.device})"
        for module in self.modules if not explained else ():
            if module.references > 0:
                times = "once" if module.references == 1 else f"{module.references} times"
                yield f"its module {module.name} is in use {times}"
        for stream in self.streams:
            by = f" by process {stream.pid}" if stream.pid is not None else ""
            yield f"sound stream {stream.node} is {stream.state.lower()}{by}"
        for network in self.networks:
            if network.default_route:
                yield f"the host's way out is through {network.name}"
            elif network.master is not None and network.up:
                yield f"{network.name} is a port of {network.master}"
            elif network.used:
                yield f"{network.name} is up and has an address"
        for member in self.members:
            yield member.replace(" of ", " is part of ")
