"""AllowedCPUs and scopes, against a systemd of the test's own on a bus of the test's own."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from hostler.errors import HostFailed, Unreachable
from hostlerd.host import Units, systemd
from hostlerd.host.bus import PROPERTIES, STANDARD_ERROR, Bus, CallFailed, Codec, Message, Reply, Variant
from hostlerd.host.processes import started
from hostlerd.host.systemd import SystemdUnits

NAME = "org.freedesktop.systemd1"
SOON = 10.0
_SERVICE = {"Type", "ExecStart", "TimeoutStartUSec"}
"""Properties of services, not of scopes."""


class FakeSystemd:
    """The few methods of org.freedesktop.systemd1 that are called, with its error names and sentences."""

    def __init__(self) -> None:
        self.units: dict[str, bytes] = {
            "system.slice": b"",
            "init.scope": b"\x03",
            "a-b.service": b"\x00\x01",
        }
        self.active: dict[str, str] = {"a-b.service": "active", "asleep.service": "inactive"}
        """Of units that there are; `asleep` is not in memory until it is asked for."""
        self.slow: set[str] = set()
        """Jobs of these are taken and never done."""
        self.forgiven: list[str] = []
        self.scopes: list[tuple[Any, ...]] = []
        self.started: list[str] = []
        self.refuse: CallFailed | None = None
        self.knows = {"Description", "Slice", "AllowedCPUs", "CollectMode", "PIDs"}
        """Properties of a scope."""
        self.silent = False
        self.partitions: dict[str, str] | None = None
        """CPUSetPartition=; None: this is older than 261."""
        self.not_yet = 0
        """How often a process is still said to be where it was."""

    def handle(self, call: Message) -> Any:
        if self.silent:
            return self._never()
        if self.refuse is not None:
            raise self.refuse
        return getattr(self, call.member)(call)

    async def _never(self) -> Reply:
        await trio.sleep_forever()
        raise AssertionError

    def _known(self, unit: str) -> None:
        if unit not in self.units:
            raise CallFailed(systemd.NO_SUCH_UNIT, f"Unit {unit} not loaded.")

    def GetUnit(self, call: Message) -> Reply:  # noqa: N802 - systemd's name
        assert (call.path, call.interface, call.signature) == (systemd.PATH, systemd.MANAGER, "s")
        self._known(call.body[0])
        return Reply("o", (f"{systemd.PATH}/unit/{list(self.units).index(call.body[0])}",))

    def LoadUnit(self, call: Message) -> Reply:  # noqa: N802 - never fails: the unit is "not-found" then
        self.units.setdefault(call.body[0], b"")
        return self.GetUnit(call)

    def ResetFailedUnit(self, call: Message) -> Reply:  # noqa: N802
        self.forgiven.append(call.body[0])
        return Reply()

    def StopUnit(self, call: Message) -> Reply:  # noqa: N802
        unit, mode = call.body
        assert (call.signature, mode) == ("ss", "replace")
        self._known(unit)
        if unit not in self.slow:
            self.active[unit] = "inactive"
        return Reply("o", (f"{systemd.PATH}/job/3",))

    def Get(self, call: Message) -> Reply:  # noqa: N802
        if call.body[0] == systemd.UNIT:
            unit = list(self.units)[int(call.path.rpartition("/")[2])]
            known = unit in self.active
            values = {
                "LoadState": "loaded" if known else "not-found",
                "ActiveState": self.active.get(unit, "inactive"),
            }
            return Reply("v", (Variant("s", values[call.body[1]]),))
        unit = list(self.units)[int(call.path.rpartition("/")[2])]
        kind = unit.rpartition(".")[2].capitalize()
        assert (call.interface, call.body) == (PROPERTIES, (f"{NAME}.{kind}", "AllowedCPUs"))
        return Reply("v", (Variant("ay", self.units[unit]),))

    def SetUnitProperties(self, call: Message) -> Reply:  # noqa: N802
        unit, runtime, ((name, value),) = call.body
        if name == "CPUSetPartition":
            if self.partitions is None:
                words = "Cannot set property CPUSetPartition, or unknown property."
                raise CallFailed("org.freedesktop.DBus.Error.PropertyReadOnly", words)
            self._known(unit)
            self.partitions[unit] = value
            return Reply()
        assert (call.signature, runtime, name) == ("sba(sv)", True, "AllowedCPUs")
        self._known(unit)
        self.units[unit] = bytes(value)
        return Reply()

    def StartTransientUnit(self, call: Message) -> Reply:  # noqa: N802
        assert call.signature == "ssa(sv)a(sa(sv))"
        for name, _ in call.body[2]:
            if name not in self.knows | (_SERVICE if call.body[0].endswith(".service") else set()):
                raise CallFailed(
                    STANDARD_ERROR + "PropertyReadOnly",
                    f"Cannot set property {name}, or unknown property.",
                )
        self.scopes.append(call.body)
        self.units[call.body[0]] = b""
        return Reply("o", (f"{systemd.PATH}/job/1",))

    def StartUnit(self, call: Message) -> Reply:  # noqa: N802
        unit, mode = call.body
        assert (call.signature, mode) == ("ss", "replace")
        self._known(unit)
        self.started.append(unit)
        if unit not in self.slow:
            self.active[unit] = "active"
        return Reply("o", (f"{systemd.PATH}/job/2",))

    def GetUnitByPID(self, call: Message) -> Reply:  # noqa: N802
        assert call.signature == "u"
        self.not_yet -= 1
        number = 0 if self.not_yet >= 0 else len(self.units) - 1
        return Reply("o", (f"{systemd.PATH}/unit/{number}",))


@asynccontextmanager
async def systemd_on(address: str, codec: Codec, fake: FakeSystemd) -> AsyncIterator[SystemdUnits]:
    async with trio.open_nursery() as nursery:
        server, client = Bus(address, codec=codec), Bus(address, codec=codec)
        server.serve(NAME, fake.handle)
        await nursery.start(server.run)
        await nursery.start(client.run)
        yield SystemdUnits(client)
        nursery.cancel_scope.cancel()


async def test_allowed_cpus_of_loaded_units(private_bus: Any, codec: Codec) -> None:
    async with systemd_on(private_bus.address, codec, FakeSystemd()) as live:
        units: Units = live
        found = await units.allowed_cpus(
            ["init.scope", "system.slice", "gone.slice", "a-b.service", "not-a-unit", "x.timer"]
        )
    assert found == {"init.scope": {0, 1}, "system.slice": set(), "a-b.service": {8}}


async def test_allowed_cpus_are_set(private_bus: Any, codec: Codec) -> None:
    fake = FakeSystemd()
    async with systemd_on(private_bus.address, codec, fake) as units:
        await units.set_allowed_cpus("system.slice", frozenset({0, 9}))
        await units.set_allowed_cpus("init.scope", frozenset())
        assert fake.units["system.slice"] == b"\x01\x02"
        assert fake.units["init.scope"] == b""
        assert await units.allowed_cpus(["system.slice"]) == {"system.slice": {0, 9}}


async def test_a_unit_is_started(private_bus: Any, codec: Codec) -> None:
    fake = FakeSystemd()
    async with systemd_on(private_bus.address, codec, fake) as units:
        await units.activate("a-b.service")
        assert fake.started == ["a-b.service"]
        with pytest.raises(HostFailed, match=r"does not start gone\.socket: Unit gone\.socket not loaded"):
            await units.activate("gone.socket")


async def test_what_systemd_refuses_is_told_in_its_words(private_bus: Any, codec: Codec) -> None:
    fake = FakeSystemd()
    async with systemd_on(private_bus.address, codec, fake) as units:
        with pytest.raises(HostFailed) as failed:
            await units.set_allowed_cpus("gone.slice", frozenset({1, 2, 3}))
        assert (
            failed.value.message
            == "systemd did not set AllowedCPUs=1-3 on gone.slice: Unit gone.slice not loaded."
        )
        assert failed.value.data == {"object": "gone.slice"}
        fake.refuse = CallFailed("org.freedesktop.DBus.Error.AccessDenied", "Permission denied")
        with pytest.raises(HostFailed, match=r"system\.slice: Permission denied"):
            await units.allowed_cpus(["system.slice"])
        assert not await units.start_scope("w.scope", [1], "a writer")


async def test_a_systemd_that_does_not_answer_has_a_limit(
    private_bus: Any, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "READ_LIMIT", 0.05)
    monkeypatch.setattr(systemd, "WRITE_LIMIT", 0.05)
    fake = FakeSystemd()
    fake.silent = True
    async with systemd_on(private_bus.address, codec, fake) as units:
        with pytest.raises(HostFailed, match="did not answer GetUnit"):
            await units.allowed_cpus(["system.slice"])
        with pytest.raises(HostFailed, match="did not answer SetUnitProperties"):
            await units.set_allowed_cpus("system.slice", frozenset({1}))
        assert not await units.start_scope("w.scope", [1], "a writer")


async def test_without_a_bus(stopped_bus: Any, codec: Codec) -> None:
    units = SystemdUnits(Bus(stopped_bus.address, codec=codec))
    with pytest.raises(Unreachable):
        await units.allowed_cpus(["system.slice"])
    with pytest.raises(HostFailed, match="bus is away"):
        await units.set_allowed_cpus("system.slice", frozenset({1}))
    assert not await units.start_scope("w.scope", [1], "a writer")


async def test_a_scope_takes_the_processes(private_bus: Any, codec: Codec) -> None:
    fake = FakeSystemd()
    fake.not_yet = 3
    async with systemd_on(private_bus.address, codec, fake) as units:
        assert await units.start_scope("hostler-write-7.scope", [7, 8], "a writer")
        assert fake.not_yet == -2
    ((name, mode, properties, auxiliary),) = fake.scopes
    assert (name, mode, auxiliary) == ("hostler-write-7.scope", "fail", [])
    assert dict(properties) == {
        "Description": "a writer",
        "PIDs": [7, 8],
        "CollectMode": "inactive-or-failed",
    }


async def test_a_move_that_is_not_seen_is_no_success(
    private_bus: Any, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "MOVE_LIMIT", 0.05)
    fake = FakeSystemd()
    fake.not_yet = 1_000_000
    async with systemd_on(private_bus.address, codec, fake) as units:
        assert not await units.start_scope("hostler-write-7.scope", [7], "a writer")


@pytest.mark.parametrize("old", [True, False])
async def test_a_program_gets_a_scope_with_its_cpus(private_bus: Any, codec: Codec, *, old: bool) -> None:
    fake, pid = FakeSystemd(), os.getpid()
    fake.not_yet = 3
    if not old:
        fake.knows.add("PIDFDs")
    async with systemd_on(private_bus.address, codec, fake) as units:
        await units.enter_scope(
            "x.scope",
            slice_="hostler.slice",
            pid=pid,
            start=started(pid) or 0,
            uid=os.getuid(),
            cpus=frozenset({2, 9}),
            description="a game",
        )
        assert fake.not_yet == -1
    ((name, mode, properties, _),) = fake.scopes
    found = dict(properties)
    assert (name, mode) == ("x.scope", "fail")
    assert found.pop("PIDs" if old else "PIDFDs") == [pid if old else 0]
    assert found == {
        "Description": "a game",
        "Slice": "hostler.slice",
        "AllowedCPUs": b"\x04\x02",
        "CollectMode": "inactive-or-failed",
    }


async def test_no_scope_for_a_process_that_is_another_by_now_or_gone_or_refused(
    private_bus: Any, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "ENTER_LIMIT", 0.05)
    fake, pid = FakeSystemd(), os.getpid()

    async def enter(units: SystemdUnits, pid: int, start: int, uid: int = 0) -> None:
        await units.enter_scope(
            "x.scope",
            slice_="hostler.slice",
            pid=pid,
            start=start,
            uid=uid,
            cpus=frozenset({2}),
            description="",
        )

    async with systemd_on(private_bus.address, codec, fake) as units:
        with pytest.raises(HostFailed, match="has ended"):
            await enter(units, pid, 1)
        with pytest.raises(HostFailed, match="cannot be had"):
            await enter(units, 2**22 - 1, 1)
        with pytest.raises(HostFailed, match="is another user's"):
            await enter(units, pid, started(pid) or 0, uid=os.getuid() + 1)
        assert not fake.scopes
        fake.not_yet = 1_000_000
        with pytest.raises(HostFailed, match=r"is not in it after 0\.05 s"):
            await enter(units, pid, started(pid) or 0)
        fake.refuse = CallFailed("org.freedesktop.systemd1.UnitExists", "Unit x.scope was already loaded.")
        with pytest.raises(HostFailed, match=r"does not make x\.scope: Unit x\.scope was already"):
            await enter(units, pid, started(pid) or 0)
    assert len(fake.scopes) == 1


async def test_states_of_what_there_is_in_memory_or_not(private_bus: Any, codec: Codec) -> None:
    async with systemd_on(private_bus.address, codec, FakeSystemd()) as live:
        found = await live.states(["a-b.service", "asleep.service", "none.service"])
        assert found == {"a-b.service": "active", "asleep.service": "inactive"}


async def test_stopped_and_started_whatever_its_limit_of_starts(private_bus: Any, codec: Codec) -> None:
    fake = FakeSystemd()
    async with systemd_on(private_bus.address, codec, fake) as live:
        await live.stop_unit("a-b.service", limit=5.0)
        assert fake.active["a-b.service"] == "inactive"
        await live.start_unit("a-b.service")
        assert fake.active["a-b.service"] == "active"
        assert fake.forgiven == ["a-b.service"]


async def test_stopping_what_is_not_there_is_no_error(private_bus: Any, codec: Codec) -> None:
    async with systemd_on(private_bus.address, codec, FakeSystemd()) as live:
        await live.stop_unit("none.service", limit=1.0)


async def test_a_unit_that_does_not_stop_in_time_is_an_error(private_bus: Any, codec: Codec) -> None:
    fake = FakeSystemd()
    fake.slow.add("a-b.service")
    async with systemd_on(private_bus.address, codec, fake) as live:
        with pytest.raises(HostFailed, match=r"has not stopped within 0\.2 s; it is active"):
            await live.stop_unit("a-b.service", limit=0.2)


async def test_a_unit_that_cannot_be_started_is_told_in_systemds_words(
    private_bus: Any, codec: Codec
) -> None:
    async with systemd_on(private_bus.address, codec, FakeSystemd()) as live:
        with pytest.raises(HostFailed, match=r"Unit none\.service not loaded"):
            await live.start_unit("none.service")


async def test_partitions_are_told_where_systemd_knows_them(private_bus: Any, codec: Codec) -> None:
    fake = FakeSystemd()
    fake.partitions = {}
    async with systemd_on(private_bus.address, codec, fake) as units:
        assert await units.set_partition("system.slice", "isolated")
        assert fake.partitions == {"system.slice": "isolated"}
        assert not await units.set_partition("gone.slice", "isolated")
        assert await units.set_partition("system.slice", "member")


async def test_an_older_systemd_is_asked_once(private_bus: Any, codec: Codec) -> None:
    fake = FakeSystemd()
    async with systemd_on(private_bus.address, codec, fake) as units:
        assert not await units.set_partition("system.slice", "isolated")
        fake.partitions = {}
        assert not await units.set_partition("system.slice", "isolated")
        assert not fake.partitions


async def test_a_service_writes_what_we_may_not(private_bus: Any, codec: Codec) -> None:
    fake = FakeSystemd()
    async with systemd_on(private_bus.address, codec, fake) as units:
        await units.write("/sys/fs/cgroup/a/cpuset.cpus.partition", "isolated", limit=5.0)
        ((name, mode, properties, _),) = fake.scopes
        assert (name.endswith(".service"), mode) == (True, "fail")
        values = dict(properties)
        assert values["Type"] == "oneshot"
        ((program, words, ignored),) = values["ExecStart"]
        assert (program, words[-2:], ignored) == (
            "/bin/sh",
            ["/sys/fs/cgroup/a/cpuset.cpus.partition", "isolated"],
            False,
        )
        fake.refuse = CallFailed("org.freedesktop.DBus.Error.AccessDenied", "no")
        with pytest.raises(HostFailed, match="does not write isolated"):
            await units.write("/sys/fs/cgroup/a/cpuset.cpus.partition", "isolated", limit=5.0)
