"""systemd through its D-Bus API: AllowedCPUs of units, and scopes for processes that must not die with the daemon.

Rules: every call has a limit; what systemd refuses is told in its own words. Interfaces and property types are those of
org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from hostler.errors import HostFailed, TimedOut, Unreachable
from hostlerd.host.bus import PROPERTIES, Bus, CallFailed, Variant
from hostlerd.model.cpuset import CpuSet, format_cpu_list, from_bytes, to_bytes

log = logging.getLogger(__name__)

SYSTEMD = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
RUNTIME = True
"""Not to disk: a reboot ends what hostler did."""
READ_LIMIT, WRITE_LIMIT = 5.0, 10.0
"""Seconds. systemd answers in a millisecond, but a daemon-reload takes it away for seconds."""

_KINDS = frozenset({"slice", "scope", "service", "socket", "mount", "swap"})
"""Units that have a control group, and with it AllowedCPUs."""


class SystemdUnits:
    """host.Units on the live host."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def allowed_cpus(self, units: Sequence[str]) -> Mapping[str, CpuSet]:
        """AllowedCPUs of each unit that is loaded; empty where it is not set.

        Raises Unreachable while the bus or systemd is away, HostFailed with systemd's words.
        """
        found: dict[str, CpuSet] = {}
        for unit in units:
            try:
                (path,) = await self._bus.call(SYSTEMD, PATH, MANAGER, "GetUnit", "s", unit, limit=READ_LIMIT)
                (mask,) = await self._bus.call(
                    SYSTEMD, path, PROPERTIES, "Get", "ss", _interface(unit), "AllowedCPUs", limit=READ_LIMIT
                )
            except CallFailed as failed:
                if failed.name != NO_SUCH_UNIT:
                    raise HostFailed(
                        f"systemd does not tell AllowedCPUs of {unit}: {failed.message}",
                        data={"object": unit},
                    ) from failed
            except TimedOut as error:
                raise HostFailed(error.message, data={"object": unit}) from error
            else:
                found[unit] = from_bytes(bytes(mask))
        return found

    async def set_allowed_cpus(self, unit: str, cpus: CpuSet) -> None:
        """SetUnitProperties(runtime); the empty set clears the property. Raises HostFailed with systemd's words."""
        change = [("AllowedCPUs", Variant("ay", to_bytes(cpus)))]
        try:
            await self._bus.call(
                SYSTEMD,
                PATH,
                MANAGER,
                "SetUnitProperties",
                "sba(sv)",
                unit,
                RUNTIME,
                change,
                limit=WRITE_LIMIT,
            )
        except (CallFailed, TimedOut, Unreachable) as error:
            raise HostFailed(
                f"systemd did not set AllowedCPUs={format_cpu_list(cpus)} on {unit}: {error.message}",
                data={"object": unit},
            ) from error

    async def start_scope(self, name: str, pids: Sequence[int], description: str) -> bool:
        """Move processes of ours into the new scope `name`, which stopping the daemon's unit does not touch.

        False, with a line in the log, where that cannot be had: the processes then stay where they are.
        """
        properties = [
            ("Description", Variant("s", description)),
            ("PIDs", Variant("au", list(pids))),
            ("CollectMode", Variant("s", "inactive-or-failed")),
        ]
        try:
            await self._bus.call(
                SYSTEMD,
                PATH,
                MANAGER,
                "StartTransientUnit",
                "ssa(sv)a(sa(sv))",
                name,
                "fail",
                properties,
                [],
                limit=READ_LIMIT,
            )
        except (CallFailed, TimedOut, Unreachable) as error:
            log.info("%s is not made: %s", name, error.message)
            return False
        return True


def _interface(unit: str) -> str:
    """Where a unit's AllowedCPUs is: the interface of its type. Raises HostFailed for a type that has none."""
    kind = unit.rpartition(".")[2]
    if kind not in _KINDS:
        raise HostFailed(f"{unit} is no unit with a control group", data={"object": unit})
    return f"{SYSTEMD}.{kind.capitalize()}"
