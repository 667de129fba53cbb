"""What can be made to go wrong, by name. A fault stays until it is lifted.

Only names and parameters live here; the noun that is to fail asks for its own.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

from hostler.errors import BadInput

KNOWN = {
    "hang-unbind": "unbinding the device `object` never returns, and its lock stays held",
    "probe-fails": "the driver `value` (any, where empty) refuses the device `object`",
    "fragmented": "on node `object` the kernel makes `value` more huge pages, until memory is compacted",
    "cached": "on node `object` the kernel makes `value` more huge pages, until its caches are dropped",
    "slow-pages": "on node `object` each huge page takes the kernel `value` seconds",
    "crowded": "on node `object` the kernel makes `value` more huge pages, whatever is done",
    "write-fails": "writing to the file `object` gives the error `value` (EIO, EBUSY, ...)",
    "slow-write": "writing to the file or device `object` takes `value` seconds",
    "dead": "the function `object` reads as ones and answers nothing; `value`: reset or rescan helps",
    "d3cold": "the function `object` sleeps without power until it is woken; moved asleep it is dead",
    "no-room": "the bridge of the function `object` has room for BARs of `value` MiB in all",
    "module-held": "something in the kernel that is no process uses the module `object` `value` times (once)",
    "engine-refuses": "the container engine answers `value` when it is to stop or start the container `object`",
    "start-fails": "QEMU of the domain `object` ends while it starts, after the hook's prepare",
    "unit-stays": "the unit `object` does not stop",
    "unit-fails": "the unit `object` does not start",
    "partitioned": "threads of the kernel may not run on CPUs `value`: somebody's partition has them",
    "deaf": "irqbalance does not listen at its socket `object`",
    "process-stays": "the process `object` ends neither by SIGTERM nor by SIGKILL",
    "ignores-sigterm": "the process `object` ends by SIGKILL alone",
    "unit-refuses": "systemd refuses AllowedCPUs for the unit `object` with the words `value`",
    "unit-ignores": "systemd takes AllowedCPUs for the unit `object` and the kernel grants nothing of it",
    "define-fails": "libvirt does not take another definition of the domain `object`",
    "attach-fails": "QEMU of the domain `object` cannot open any USB device",
    "pin-fails": "libvirt cannot pin anything of the domain `object`",
    "no-cpusets": "the domain `object` is started without cpusets of its own (cgroup_controllers of qemu.conf)",
    "early-udev": "udev's rules win the race against loaded drivers for a new device (mostly they lose it)",
    "vanish-after-writes": "the card of the device `object` is pulled out after `value` more changes to the host",
    "die-before-writes": "SIGKILL for this process when it is about to make the change of number `value`",
    "die-after-writes": "SIGKILL for this process after `value` more changes to the host",
}


@dataclass(slots=True)
class Faults:
    """`active`: (name, object) to value."""

    active: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def cause(self, name: str, obj: str = "", value: str = "") -> None:
        """Raises BadInput for a name that is not known."""
        if name not in KNOWN:
            raise BadInput(f"no fault is called {name!r}", remedy=f"one of {', '.join(sorted(KNOWN))}")
        self.active[name, obj] = value

    def lift(self, name: str, obj: str = "") -> bool:
        return self.active.pop((name, obj), None) is not None

    def get(self, name: str, obj: str = "") -> str | None:
        """The fault's value, empty where it has none; None where there is no such fault."""
        return self.active.get((name, obj))

    def count_down(self, name: str, obj: str) -> bool:
        """One less to wait for; true, and lifted, when it is due."""
        left = int(self.active[name, obj] or "1") - 1
        if left > 0:
            self.active[name, obj] = str(left)
            return False
        del self.active[name, obj]
        return True

    def dump(self) -> list[list[str]]:
        return [[name, obj, value] for (name, obj), value in self.active.items()]

    def load(self, dumped: list[Any]) -> None:
        self.active = {(name, obj): value for name, obj, value in dumped}


def number(name: str) -> int:
    """EIO and its kin as a number. Raises BadInput."""
    found = getattr(errno, name, None) if name.startswith("E") else None
    if not isinstance(found, int):
        raise BadInput(f"{name!r} is no error of the kernel", remedy="give a name such as EIO or EBUSY")
    return found
