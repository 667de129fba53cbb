"""systemd as far as AllowedCPUs goes: the property, what it does to control groups, and what it does not undo.

systemd.resource-control(5), src/core/cgroup.c. Lab: `main_job` sets and reads them through busctl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from hostler.errors import HostFailed
from hostlerd.host.simulated.kernel import Kernel
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list

AT_BOOT = ("init.scope", "system.slice", "user.slice")
ON_DEMAND = ("machine.slice",)
"""Has a unit file of systemd's own, and gets a control group when something is put into it."""


@dataclass(slots=True)
class SimulatedUnits:
    """Implements `hostlerd.host.Units`. `paths`: active unit to its control group. `allowed`: the property, if set."""

    kernel: Kernel
    paths: dict[str, str] = field(default_factory=dict[str, str])
    allowed: dict[str, CpuSet] = field(default_factory=dict[str, CpuSet])

    def boot(self) -> None:
        for unit in AT_BOOT:
            self.start(unit, f"/{unit}")

    # --- Units

    async def allowed_cpus(self, units: Sequence[str]) -> Mapping[str, CpuSet]:
        await trio.lowlevel.checkpoint()
        known = (*self.paths, *ON_DEMAND)
        return {unit: self.allowed.get(unit, frozenset()) for unit in units if unit in known}

    async def set_allowed_cpus(self, unit: str, cpus: CpuSet) -> None:
        await trio.lowlevel.checkpoint()
        words = self.kernel.faults.get("unit-refuses", unit)
        if words is not None:
            raise HostFailed(words or "Access denied", data={"object": unit})
        if unit not in self.paths and unit not in ON_DEMAND:
            raise HostFailed(f"Unit {unit} not found.", data={"object": unit})
        self.set_by_hand(unit, cpus)

    # --- what else systemd does

    def set_by_hand(self, unit: str, cpus: CpuSet) -> None:
        """`systemctl set-property --runtime`."""
        if cpus:
            self.allowed[unit] = cpus
        else:
            self.allowed.pop(unit, None)
        self._apply(unit)
        self.kernel.settle()

    def start(self, unit: str, path: str, *, delegate: bool = False) -> None:
        """The unit is active and has its control group. A delegated one gets all controllers, on the way down too."""
        for slice_unit in [part for part in path.strip("/").split("/")[:-1] if part.endswith(".slice")]:
            if slice_unit not in self.paths:
                self.start(slice_unit, path[: path.index(slice_unit)] + slice_unit)
        self.paths[unit] = path
        self.kernel.cgroups.make(path)
        if delegate and self.kernel.cgroups.unified:
            self.kernel.cgroups.control(path)
        self._apply(unit)
        self.kernel.settle()

    def stop(self, unit: str) -> None:
        """Slices of systemd's own stay, as machine.slice does: it is not stopped with its last scope."""
        path = self.paths.pop(unit, None)
        self.allowed.pop(unit, None)
        if path is not None:
            self.kernel.cgroups.remove(path)
            self.kernel.settle()

    def daemon_reload(self) -> None:
        """Runtime properties are drop-ins in /run: they stay and are applied again (systemd#17938)."""
        for unit in list(self.paths):
            self._apply(unit)
        self.kernel.settle()

    def _apply(self, unit: str) -> None:
        """cgroup_context_apply: writes cpuset.cpus where the property is set, and nothing where it is not.

        So clearing it leaves the old mask on (systemd#43846). On cgroup v1 there is no cpuset for it: nothing happens.
        """
        cgroups, path, cpus = self.kernel.cgroups, self.paths.get(unit), self.allowed.get(unit)
        if (
            path is None
            or not cpus
            or not cgroups.unified
            or self.kernel.faults.get("unit-ignores", unit) is not None
        ):
            return
        cgroups.control(path.rpartition("/")[0])
        # CPUs that the machine does not have are dropped, not refused (unit_set_cpuset).
        cgroups.ask(path, cpus & cgroups.cpus)

    # --- to and from JSON

    def dump(self) -> dict[str, Any]:
        return {
            "paths": self.paths,
            "allowed": {unit: format_cpu_list(cpus) for unit, cpus in self.allowed.items()},
        }

    def load(self, dumped: dict[str, Any]) -> None:
        self.paths = dict(dumped["paths"])
        self.allowed = {unit: parse_cpu_list(text) for unit, text in dumped["allowed"].items()}
