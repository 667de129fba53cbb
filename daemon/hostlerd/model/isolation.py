"""Control groups as far as CPUs go."""

from __future__ import annotations

from dataclasses import dataclass

from hostlerd.model.cpuset import CpuSet

CGROUPS = "/sys/fs/cgroup"
DOMAIN = "machine-qemu\\x2d"
"""How machined's scope of a libvirt domain begins: systemd escapes the name qemu-1-win11."""
HOST_UNITS = ("init.scope", "system.slice", "user.slice")
"""Where the host's own work lives; AllowedCPUs covers only these, not the root (systemd.resource-control(5))."""
MACHINE_SLICE = "machine.slice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A unit's control group. `allowed`: the AllowedCPUs property, empty where it is not set; `effective`: the
    kernel's.

    `path`: folder of the control group, empty if it has none now (a slice without processes). `is_domain`: a libvirt
    scope, or a slice with one below.
    """

    unit: str
    allowed: CpuSet
    effective: CpuSet
    path: str = ""
    is_domain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The units that matter. `unified` is False on cgroup v1, where nothing here can be done.

    `units`: the host's slices and init.scope, machine.slice, and every other unit directly in machine.slice.
    `programs`: the scopes in hostler.slice, which is no slice of the host's.
    `strangers`: groups at the top that are no units and have processes.
    """

    unified: bool = True
    units: tuple[Group, ...] = ()
    programs: tuple[Group, ...] = ()
    strangers: tuple[Group, ...] = ()

    def get(self, unit: str) -> Group | None:
        return next((group for group in self.units if group.unit == unit), None)
