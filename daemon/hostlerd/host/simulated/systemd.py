"""systemd as far as AllowedCPUs goes: the property, what it does to control groups, and what it does not undo.

systemd.resource-control(5), src/core/cgroup.c (unit_realize_cgroup_now). Seen on systemd 252 and 257: the cpuset
controller is off on a fresh host, comes for all siblings with the first unit that needs it, and goes with the last.
Lab: `console_card` reads the slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from hostler.errors import HostFailed
from hostlerd.host import Kick
from hostlerd.host.simulated.cgroups import Cgroups
from hostlerd.host.simulated.kernel import Kernel
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list
from hostlerd.model.programs import SLICE

AT_BOOT = ("init.scope", "system.slice", "user.slice", "machine.slice")
"""machine.slice is there from the start where virtual machines are: systemd-machined.service wants it."""
EMPTY_AT_BOOT = ("machine.slice",)
DISPLAY_MANAGER = "display-manager.service"


@dataclass(slots=True)
class SimulatedUnits:
    """Implements `hostlerd.host.Units`. `paths`: active unit to its control group. `allowed`: the property, if set.

    `delegated`: units that get all controllers, for which their slice has to have them. `down`: stopped services,
    to the control group that they get again.
    """

    kernel: Kernel
    paths: dict[str, str] = field(default_factory=dict[str, str])
    allowed: dict[str, CpuSet] = field(default_factory=dict[str, CpuSet])
    delegated: set[str] = field(default_factory=set[str])
    down: dict[str, str] = field(default_factory=dict[str, str])
    program_kicks: list[Kick] = field(default_factory=list[Kick])
    """A scope of a program came or went (inotify)."""
    partitions: dict[str, str] | None = None
    """CPUSetPartition= of units, where this is systemd 261 or newer."""

    def boot(self) -> None:
        for unit in AT_BOOT:
            self.start(unit, f"/{unit}", populated=unit not in EMPTY_AT_BOOT)

    # --- Units

    async def allowed_cpus(self, units: Sequence[str]) -> Mapping[str, CpuSet]:
        await trio.lowlevel.checkpoint()
        return {unit: self.allowed.get(unit, frozenset()) for unit in units if unit in self._loaded}

    async def set_allowed_cpus(self, unit: str, cpus: CpuSet) -> None:
        await trio.lowlevel.checkpoint()
        self.kernel.begin()
        words = self.kernel.faults.get("unit-refuses", unit)
        if words is not None:
            raise HostFailed(words or "Access denied", data={"object": unit})
        # A slice without a unit file is loaded on demand; anything else has to be there (seen on systemd 252).
        if unit not in self._loaded and not unit.endswith(".slice"):
            raise HostFailed(f"Unit {unit} not found.", data={"object": unit})
        self.set_by_hand(unit, cpus)
        self.kernel.done(f"AllowedCPUs of {unit}", format_cpu_list(cpus))

    async def set_partition(self, unit: str, kind: str) -> bool:
        """A refusal of the kernel's is only logged (systemd#42013)."""
        await trio.lowlevel.checkpoint()
        if self.partitions is None or unit not in self.paths:
            return False
        self.partitions[unit] = kind
        self._apply_partition(unit)
        return True

    async def write(self, path: str, text: str, *, limit: float) -> None:  # noqa: ARG002 - it takes no time
        await trio.lowlevel.checkpoint()
        try:
            self.kernel.write(path, text)
        except OSError:
            return  # the service failed, which is read from the file

    def _apply_partition(self, unit: str) -> None:
        path = self.paths.get(unit)
        if path is None or self.partitions is None or unit not in self.partitions:
            return
        if self.kernel.cgroups.unified and self.kernel.cgroups.controlled(path.rpartition("/")[0]):
            self.kernel.cgroups.write(path, "cpuset.cpus.partition", self.partitions[unit])

    async def states(self, units: Sequence[str]) -> Mapping[str, str]:
        """A unit that was stopped is inactive as long as something may start it again."""
        await trio.lowlevel.checkpoint()
        down = {unit: "inactive" for unit in units if unit in self.down}
        return down | {unit: "active" for unit in units if unit in self.paths}

    async def stop_unit(self, unit: str, *, limit: float) -> None:
        """Its processes end with it, and with the display manager those of the users, whose screen it is."""
        await trio.lowlevel.checkpoint()
        self.kernel.begin()
        if self.kernel.faults.get("unit-stays", unit) is not None:
            await trio.sleep(limit)
            raise HostFailed(f"{unit} has not stopped within {limit:g} s", data={"object": unit})
        path = self.paths.get(unit)
        if path is not None:
            parts = (unit, "user.slice") if unit == DISPLAY_MANAGER else (unit,)
            for pid in [pid for part in parts for pid in self.kernel.processes.within(part)]:
                self.kernel.let_go(pid)
            self.stop(unit)
            self.down[unit] = path
        self.kernel.done(f"stop {unit}", "")

    async def start_unit(self, unit: str) -> None:
        await trio.lowlevel.checkpoint()
        self.kernel.begin()
        if self.kernel.faults.get("unit-fails", unit) is not None:
            raise HostFailed(f"{unit} has not started within 20 s; it is failed", data={"object": unit})
        if unit in self.down:
            self.start(unit, self.down[unit])
        self.kernel.done(f"start {unit}", "")

    async def enter_scope(
        self, name: str, *, slice_: str, pid: int, start: int, uid: int, cpus: CpuSet, description: str
    ) -> None:
        """Who asks is a process of this machine, which the simulated one gets to know by it, or one of its own."""
        await trio.lowlevel.checkpoint()
        self.kernel.begin()
        if pid in self.kernel.processes.open and uid not in (0, self.kernel.processes.user(pid)):
            raise HostFailed(
                f"systemd does not make {name}: process {pid} is another user's", data={"object": name}
            )
        if pid in self.kernel.processes.open and self._started(pid) != start:
            raise HostFailed(f"systemd does not make {name}: process {pid} has ended", data={"object": name})
        words = self.kernel.faults.get("unit-refuses", slice_)
        if words is not None:
            raise HostFailed(
                f"systemd does not make {name}: {words or 'Access denied'}", data={"object": name}
            )
        if name in self.paths:
            raise HostFailed(
                f"systemd does not make {name}: Unit {name} was already loaded.", data={"object": name}
            )
        self.allowed[name] = cpus
        command, path = description.partition(" on ")[0], f"/{slice_}/{name}"
        self.kernel.processes.move(pid, start=start, command=command, cgroup=path)
        self.start(name, path)
        self.kernel.done(f"scope {name}", format_cpu_list(cpus))
        self._tell_programs()

    def _started(self, pid: int) -> int:
        return int(self.kernel.tree.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19])

    def reap(self) -> None:
        """Scopes end with their last process, and are collected (CollectMode=inactive-or-failed)."""
        within = self.kernel.processes.within
        for unit in [u for u, path in self.paths.items() if path.startswith(f"/{SLICE}/") and not within(u)]:
            self.stop(unit)
            self._tell_programs()

    def _tell_programs(self) -> None:
        for kick in self.program_kicks:
            kick()

    @property
    def _loaded(self) -> set[str]:
        return {*self.paths, *self.allowed}

    # --- what else systemd does

    def set_by_hand(self, unit: str, cpus: CpuSet) -> None:
        """`systemctl set-property --runtime`."""
        if cpus:
            self.allowed[unit] = cpus
        else:
            self.allowed.pop(unit, None)
        self._realize()
        self._apply(unit)
        self.kernel.settle()

    def start(self, unit: str, path: str, *, delegate: bool = False, populated: bool = True) -> None:
        """The unit is active and has its control group, and so have the slices on the way."""
        for slice_unit in [part for part in path.strip("/").split("/")[:-1] if part.endswith(".slice")]:
            if slice_unit not in self.paths:
                self.start(slice_unit, path[: path.index(slice_unit)] + slice_unit, populated=populated)
        self.paths[unit] = path
        self.down.pop(unit, None)
        if delegate:
            self.delegated.add(unit)
        self.kernel.cgroups.make(path, populated=populated)
        self._realize()
        self._apply(unit)
        self.kernel.settle()

    def stop(self, unit: str) -> None:
        """Slices stay: machine.slice is not stopped with its last scope."""
        path = self.paths.pop(unit, None)
        self.allowed.pop(unit, None)
        self.delegated.discard(unit)
        if path is not None:
            self.kernel.cgroups.remove(path)
            self._realize()
            self.kernel.settle()

    def daemon_reload(self) -> None:
        """Runtime properties are drop-ins in /run: they stay and are applied again (systemd#17938)."""
        self._realize()
        for unit in list(self.paths):
            self._apply(unit)
            self._apply_partition(unit)
        self.kernel.settle()

    def _realize(self) -> None:
        """The controller is on in a group if a unit below has the property or is delegated, and off otherwise.

        unit_get_members_mask and unit_get_enable_mask. Where it goes off, masks are gone; where it comes on, units get
        what they have set.
        """
        groups = self.kernel.cgroups
        if not groups.unified:
            return
        wanted = {"/" + "/".join(parts[:depth]) for parts in self._needing() for depth in range(len(parts))}
        wanted = {"" if path == "/" else path for path in wanted}
        for path in sorted({"", *self.paths.values()}):
            if path in wanted and not groups.controlled(path):
                groups.control(path)
                for unit, below in self.paths.items():
                    if below.rpartition("/")[0] == path:
                        self._apply(unit)
            elif path not in wanted and not any(
                f"{path}/".startswith(f"{self.paths[u]}/") for u in self.delegated
            ):
                groups.uncontrol(path)

    def _needing(self) -> list[list[str]]:
        units = {unit for unit in (*self.allowed, *self.delegated) if unit in self.paths}
        return [self.paths[unit].strip("/").split("/") for unit in units]

    def _apply(self, unit: str) -> None:
        """cgroup_context_apply. A mask that the kernel does not take is logged, not refused.

        So clearing leaves the old mask on a unit that has processes (systemd#43846: the kernel answers ENOSPC), and a
        list with a CPU that the host does not have (ERANGE) leaves the one before. On cgroup v1 nothing happens.
        """
        groups: Cgroups = self.kernel.cgroups
        path = self.paths.get(unit)
        if path is None or not groups.unified or self.kernel.faults.get("unit-ignores", unit) is not None:
            return
        if not groups.controlled(path.rpartition("/")[0]):
            return
        try:
            groups.ask(path, self.allowed.get(unit, frozenset()))
        except OSError:
            return

    # --- to and from JSON

    def dump(self) -> dict[str, Any]:
        return {
            "paths": self.paths,
            "allowed": {unit: format_cpu_list(cpus) for unit, cpus in self.allowed.items()},
            "delegated": sorted(self.delegated),
            "down": self.down,
        }

    def load(self, dumped: dict[str, Any]) -> None:
        self.paths = dict(dumped["paths"])
        self.allowed = {unit: parse_cpu_list(text) for unit, text in dumped["allowed"].items()}
        self.delegated = set(dumped["delegated"])
        self.down = dict(dumped["down"])
