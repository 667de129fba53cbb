"""systemd through its D-Bus API: AllowedCPUs of units, stopping and starting them, and scopes for processes that must
not die with the daemon.

Rules: every call has a limit; what systemd refuses is told in its own words. Interfaces and property types are those of
org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from hostler.errors import HostFailed, TimedOut, Unreachable
from hostlerd.host.bus import PROPERTIES, STANDARD_ERROR, Bus, CallFailed, Variant
from hostlerd.host.processes import started
from hostlerd.model.cpuset import CpuSet, format_cpu_list, from_bytes, to_bytes

log = logging.getLogger(__name__)

SYSTEMD = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
UNIT = "org.freedesktop.systemd1.Unit"
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
RUNTIME = True
"""Not to disk: a reboot ends what hostler did."""

READ_LIMIT, WRITE_LIMIT, MOVE_LIMIT = 5.0, 10.0, 1.0
"""Seconds. systemd answers in a millisecond, but a daemon-reload takes it away for seconds."""
START_LIMIT = 20.0
ENTER_LIMIT = 5.0
MOVE_PAUSE = 0.005

_GONE = frozenset({NO_SUCH_UNIT, STANDARD_ERROR + "UnknownObject"})
_UNKNOWN_PROPERTY = frozenset({STANDARD_ERROR + "PropertyReadOnly", STANDARD_ERROR + "InvalidArgs"})
"""Of a scope that systemd does not know: bus_unit_set_properties says that it cannot be set. PIDFDs is newer than the
floor (dbus-scope.c, bus_scope_set_transient_property)."""
_NO_PROPERTY = frozenset(STANDARD_ERROR + name for name in ("PropertyReadOnly", "UnknownProperty"))
"""How a property that systemd does not know is refused (bus_unit_set_properties)."""
_KINDS = frozenset({"slice", "scope", "service", "socket", "mount", "swap"})
"""Units that have a control group, and with it AllowedCPUs."""


class SystemdUnits:
    """host.Units on the live host."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._knows_partitions = True
        self._written = 0

    async def allowed_cpus(self, units: Sequence[str]) -> Mapping[str, CpuSet]:
        """AllowedCPUs of each unit that is loaded; empty where it is not set.

        Raises Unreachable while the bus or systemd is away, HostFailed with systemd's words.
        """
        found: dict[str, CpuSet] = {}
        for unit in units:
            kind = unit.rpartition(".")[2]
            if kind not in _KINDS:
                continue  # a control group that somebody made without systemd
            asked = (f"{SYSTEMD}.{kind.capitalize()}", "AllowedCPUs")
            try:
                path = await self._path(unit)
                (mask,) = await self._bus.call(
                    SYSTEMD, path, PROPERTIES, "Get", "ss", *asked, limit=READ_LIMIT
                )
            except CallFailed as failed:
                if failed.name not in _GONE:
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
        try:
            await self._set(unit, "AllowedCPUs", Variant("ay", to_bytes(cpus)))
        except (CallFailed, TimedOut, Unreachable) as error:
            raise HostFailed(
                f"systemd did not set AllowedCPUs={format_cpu_list(cpus)} on {unit}: {error.message}",
                data={"object": unit},
            ) from error

    async def set_partition(self, unit: str, kind: str) -> bool:
        """SetUnitProperties(CPUSetPartition), since systemd 261; an older one says that there is no such property.

        So a daemon-reload leaves it on. What the kernel makes of it is not told here, and is read from its file.
        """
        if not self._knows_partitions:
            return False
        try:
            await self._set(unit, "CPUSetPartition", Variant("s", kind))
        except CallFailed as failed:
            self._knows_partitions = failed.name not in _NO_PROPERTY
            log.debug("CPUSetPartition=%s on %s: %s", kind, unit, failed.message)
            return False
        except (TimedOut, Unreachable) as error:
            log.info("CPUSetPartition=%s on %s: %s", kind, unit, error.message)
            return False
        return True

    async def _set(self, unit: str, name: str, value: Variant) -> None:
        """SetUnitProperties(runtime) of one property. Raises CallFailed, TimedOut, Unreachable."""
        await self._bus.call(
            SYSTEMD,
            PATH,
            MANAGER,
            "SetUnitProperties",
            "sba(sv)",
            unit,
            RUNTIME,
            [(name, value)],
            limit=WRITE_LIMIT,
        )

    async def write(self, path: str, text: str, *, limit: float) -> None:
        """A transient service writes it, and is gone when this returns. Raises HostFailed."""
        self._written += 1
        name = f"hostler-write-{os.getpid()}-{self._written}.service"
        shell = ["/bin/sh", "-c", 'printf "%s\\n" "$2" > "$1"', "write", path, text]
        properties = [
            ("Description", Variant("s", f"A write of hostler to {path.rpartition('/')[2]}")),
            ("Type", Variant("s", "oneshot")),
            ("ExecStart", Variant("a(sasb)", [("/bin/sh", shell, False)])),
            ("TimeoutStartUSec", Variant("t", int(limit * 1_000_000))),
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
            raise HostFailed(
                f"systemd does not write {text} to {path}: {error.message}", data={"object": path}
            ) from error
        await self._wait_state(name, ("inactive", "failed", ""), limit=limit, what="has not ended")

    async def states(self, units: Sequence[str]) -> Mapping[str, str]:
        """ActiveState of each unit that there is, in memory or not. Raises Unreachable, HostFailed."""
        found: dict[str, str] = {}
        for unit in units:
            try:
                # Not GetUnit: an inactive unit that nobody refers to is not in memory (systemd.unit(5)).
                path = str(await self._ask("LoadUnit", "s", unit))
                loaded, state = [
                    (
                        await self._bus.call(
                            SYSTEMD, path, PROPERTIES, "Get", "ss", UNIT, name, limit=READ_LIMIT
                        )
                    )[0]
                    for name in ("LoadState", "ActiveState")
                ]
            except CallFailed as failed:
                if failed.name not in _GONE:
                    raise HostFailed(
                        f"systemd does not tell the state of {unit}: {failed.message}", data={"object": unit}
                    ) from failed
            except TimedOut as error:
                raise HostFailed(error.message, data={"object": unit}) from error
            else:
                if loaded not in ("not-found", "bad-setting", "error") or state == "active":
                    found[unit] = str(state)
        return found

    async def stop_unit(self, unit: str, *, limit: float) -> None:
        """StopUnit, and wait until it is down. Its own TimeoutStopSec may be longer than `limit` seconds."""
        await self._job("StopUnit", unit)
        await self._wait_state(unit, ("inactive", "failed", ""), limit=limit, what="has not stopped")

    async def start_unit(self, unit: str) -> None:
        """ResetFailedUnit first: a unit that was stopped and started too often is refused (StartLimitBurst=)."""
        try:
            await self._ask("ResetFailedUnit", "s", unit)
        except (CallFailed, TimedOut, Unreachable) as error:
            log.debug("the failures of %s are not forgotten: %s", unit, error.message)
        await self._job("StartUnit", unit)
        await self._wait_state(unit, ("active",), limit=START_LIMIT, what="has not started")

    async def _job(self, member: str, unit: str) -> None:
        try:
            await self._bus.call(SYSTEMD, PATH, MANAGER, member, "ss", unit, "replace", limit=WRITE_LIMIT)
        except CallFailed as failed:
            if member == "StopUnit" and failed.name in _GONE:
                return
            raise HostFailed(
                f"systemd does not do {member} of {unit}: {failed.message}", data={"object": unit}
            ) from failed
        except (TimedOut, Unreachable) as error:
            raise HostFailed(
                f"systemd does not do {member} of {unit}: {error.message}", data={"object": unit}
            ) from error

    async def _wait_state(self, unit: str, wanted: Sequence[str], *, limit: float, what: str) -> None:
        """Jobs end in milliseconds as a rule: asking again, ever more slowly, is simpler than being told."""
        pause, state = 0.01, ""
        with trio.move_on_after(limit):
            while True:
                state = (await self.states([unit])).get(unit, "")
                if state in wanted:
                    return
                await trio.sleep(pause)
                pause = min(2 * pause, 0.25)
        raise HostFailed(
            f"{unit} {what} within {limit:g} s; it is {state or 'not there'}",
            remedy=f"see `systemctl status {unit}`",
            data={"object": unit},
        )

    async def start_scope(self, name: str, pids: Sequence[int], description: str) -> bool:
        """Move processes of ours into the new scope `name`, which stopping the daemon's unit does not touch.

        Returns when they are there. False, with a line in the log, where that cannot be had or is not seen within
        MOVE_LIMIT seconds: the processes then stay where they are.
        """
        properties = [
            ("Description", Variant("s", description)),
            ("PIDs", Variant("au", list(pids))),
            ("CollectMode", Variant("s", "inactive-or-failed")),
        ]
        try:
            await self._transient(name, properties)
            with trio.move_on_after(MOVE_LIMIT):
                await self._wait_moved(name, pids)
                return True
        except (CallFailed, TimedOut, Unreachable) as error:
            log.info("%s is not made: %s", name, error.message)
        else:
            log.info("%s is not made: systemd did not move the processes within %g s", name, MOVE_LIMIT)
        return False

    async def enter_scope(
        self, name: str, *, slice_: str, pid: int, start: int, uid: int, cpus: CpuSet, description: str
    ) -> None:
        """See host.Units. The process is named by its pidfd where systemd takes one, else by its number.

        A number could be another process's by now: its start is compared, and its user must be the one who asked, or
        root, whoever told us the number.
        """
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            raise _not_made(name, f"process {pid} cannot be had: {error.strerror}") from error
        try:
            _check_same(name, pid, start, uid)
            properties = [
                ("Description", Variant("s", description)),
                ("Slice", Variant("s", slice_)),
                ("AllowedCPUs", Variant("ay", to_bytes(cpus))),
                ("CollectMode", Variant("s", "inactive-or-failed")),
            ]
            try:
                await self._transient(name, [*properties, ("PIDFDs", Variant("ah", [0]))], fds=(pidfd,))
            except CallFailed as failed:
                if failed.name not in _UNKNOWN_PROPERTY:
                    raise
                _check_same(name, pid, start, uid)
                await self._transient(name, [*properties, ("PIDs", Variant("au", [pid]))])
            with trio.fail_after(ENTER_LIMIT):
                await self._wait_moved(name, [pid])
            _check_same(name, pid, start, uid)
        except (CallFailed, TimedOut, Unreachable) as error:
            raise _not_made(name, error.message) from error
        except trio.TooSlowError as error:
            raise _not_made(name, f"process {pid} is not in it after {ENTER_LIMIT:g} s") from error
        finally:
            os.close(pidfd)

    async def _transient(
        self, name: str, properties: Sequence[tuple[str, Variant]], *, fds: tuple[int, ...] = ()
    ) -> None:
        await self._bus.call(
            SYSTEMD,
            PATH,
            MANAGER,
            "StartTransientUnit",
            "ssa(sv)a(sa(sv))",
            name,
            "fail",
            list(properties),
            [],
            limit=WRITE_LIMIT,
            fds=fds,
        )

    async def activate(self, unit: str) -> None:
        """Have systemd start a unit; its job is queued when this returns. Raises HostFailed with systemd's words."""
        try:
            await self._bus.call(SYSTEMD, PATH, MANAGER, "StartUnit", "ss", unit, "replace", limit=READ_LIMIT)
        except (CallFailed, TimedOut, Unreachable) as error:
            raise HostFailed(
                f"systemd does not start {unit}: {error.message}", data={"object": unit}
            ) from error

    async def _wait_moved(self, name: str, pids: Sequence[int]) -> None:
        """StartTransientUnit only queues a job. It takes milliseconds, so asking again is simpler than being told."""
        path = await self._path(name)
        for pid in pids:
            while await self._ask("GetUnitByPID", "u", pid) != path:  # noqa: ASYNC110 - systemd has no event to wait for
                await trio.sleep(MOVE_PAUSE)

    async def _path(self, unit: str) -> str:
        return str(await self._ask("GetUnit", "s", unit))

    async def _ask(self, member: str, signature: str, argument: Any) -> Any:
        answer = await self._bus.call(SYSTEMD, PATH, MANAGER, member, signature, argument, limit=READ_LIMIT)
        return answer[0] if answer else None


def _check_same(name: str, pid: int, start: int, uid: int) -> None:
    """Raises HostFailed. A program that changes its user on exec belongs to somebody else from then on."""
    if started(pid) != start:
        raise _not_made(name, f"process {pid} has ended")
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError as error:
        raise _not_made(name, f"process {pid} has ended") from error
    if uid not in (0, owner):
        raise _not_made(name, f"process {pid} is another user's")


def _not_made(name: str, why: str) -> HostFailed:
    return HostFailed(f"systemd does not make {name}: {why}", data={"object": name})
