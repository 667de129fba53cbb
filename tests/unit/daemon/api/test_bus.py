"""The D-Bus face on a bus of the test's own, with both libraries, against the XML in dbus/ and busctl."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import trio
import trio.testing
from tests.unit.daemon.api.published import CARD, DEVICE_JSON, GUEST, PUBLISHED, ROOT, STATUS_JSON

from hostler.errors import Claimed, HostFailed, NotAuthorised
from hostlerd.api import Handed, Peer, Published
from hostlerd.api.bus import BY_PROCESS, DEVICE, DOMAIN, MANAGER, METHODS, serve
from hostlerd.api.interfaces import load
from hostlerd.host.bus import BUS, BUS_PATH, PROPERTIES, Bus, CallFailed, Codec, Kind, Message, Variant
from hostlerd.host.bus.connection import shaken_hands
from hostlerd.host.bus.descriptor import _answer
from hostlerd.host.lease import Lease
from hostlerd.host.processes import started

XML = Path(__file__).parents[4] / "dbus"
NAME = "org.hostler1"
NAMED = f"{ROOT}/Manager"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
SOON = 10.0


class FakeService:
    """Publishes what it is told to and answers what `answers` says."""

    def __init__(self, published: Published = PUBLISHED) -> None:
        self.published = published
        self.calls: list[tuple[Peer, str, Mapping[str, Any]]] = []
        self.answers: dict[str, Any] = {
            "status": {"state": "converged"},
            "devices": {"devices": [DEVICE_JSON]},
            "domains": {"domains": []},
            "cpus": {"online": [0]},
            "plan": {"steps": []},
            "doctor": {"state": "fine"},
            "reload": {"changed": True},
            "retry": {},
            "gpu": {"changed": True},
            "isolate": {"cpus": "2-3", "id": "a1"},
            "pins": {"changed": True},
        }
        self.changed = trio.Event()
        self.tell, self._events = trio.open_memory_channel[dict[str, Any]](9)

    async def call(self, peer: Peer, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        self.calls.append((peer, method, params))
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def subscribe(self) -> trio.MemoryReceiveChannel[dict[str, Any]]:
        return self._events

    def publish(self, **parts: Any) -> None:
        old = self.published
        self.published = Published(
            **{
                key: parts.get(key, getattr(old, key))
                for key in ("status", "devices", "domains", "cpus", "plan")
            }
        )
        self.changed.set()
        self.changed = trio.Event()

    async def wait_published(self, previous: Published) -> Published:
        while self.published is previous:
            await self.changed.wait()
        return self.published


class Listener:
    """A client that keeps the signals it hears."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.signals: list[Message] = []
        hear = bus._hear
        bus._hear = lambda signal: (self.signals.append(signal), hear(signal))  # type: ignore[method-assign]
        bus.listen(lambda: None, sender=NAME, interface=PROPERTIES, member="PropertiesChanged")
        bus.listen(lambda: None, sender=NAME, interface=OBJECT_MANAGER, member="InterfacesAdded")
        bus.listen(lambda: None, sender=NAME, interface=OBJECT_MANAGER, member="InterfacesRemoved")
        bus.listen(lambda: None, sender=NAME, interface=MANAGER, member="Event")

    async def next(self, count: int) -> list[tuple[str, str, tuple[Any, ...]]]:
        """The next signals of the face, (path, member, body)."""
        with trio.fail_after(SOON):
            while len(found := [s for s in self.signals if s.path.startswith(ROOT)]) < count:  # noqa: ASYNC110
                await trio.sleep(0.01)
        self.signals.clear()
        return [(s.path, s.member, s.body) for s in found]

    async def get(self, path: str, interface: str, member: str, signature: str = "", *body: Any) -> Any:
        return await self.bus.call(NAME, path, interface, member, signature, *body)


@asynccontextmanager
async def face(address: str, codec: Codec, service: FakeService) -> AsyncIterator[Listener]:
    async with trio.open_nursery() as nursery:
        server, client = Bus(address, codec=codec), Bus(address, codec=codec)
        nursery.start_soon(serve, server, service)
        await nursery.start(server.run)
        listener = Listener(client)
        await nursery.start(client.run)
        with trio.fail_after(SOON):
            while True:
                try:
                    await listener.get(ROOT, "org.freedesktop.DBus.Peer", "Ping")
                    break
                except CallFailed:
                    await trio.sleep(0.01)
        listener.signals.clear()
        yield listener
        nursery.cancel_scope.cancel()


# -- the contract -----------------------------------------------------------------------------------------------------


def normal(element: ET.Element) -> Any:
    """An element without comments, blanks and order; what an argument leaves out is filled in."""
    attributes = dict(element.attrib)
    if element.tag == "arg":
        attributes.setdefault("direction", "?")
    children = [normal(child) for child in element]
    return (
        element.tag,
        sorted(attributes.items()),
        children if element.tag == "method" else sorted(children),
    )


def interface(text: str, name: str) -> Any:
    (element,) = [e for e in ET.fromstring(text).iter("interface") if e.get("name") == name]
    return normal(element)


@pytest.mark.parametrize(("path", "name"), [(ROOT, MANAGER), (CARD, DEVICE), (GUEST, DOMAIN)])
async def test_the_face_answers_what_the_xml_says(
    private_bus: Any, codec: Codec, path: str, name: str
) -> None:
    async with face(private_bus.address, codec, FakeService()) as client:
        (answer,) = await client.get(path, "org.freedesktop.DBus.Introspectable", "Introspect")
        (properties,) = await client.get(path, PROPERTIES, "GetAll", "s", name)
    assert interface(answer, name) == interface((XML / f"{name}.xml").read_text(), name)
    assert set(properties) == set(load(name).properties)


def test_every_method_of_the_xml_is_performed_and_no_other() -> None:
    assert set(load(MANAGER).methods) == set(METHODS)
    assert load(DEVICE).methods == {}
    assert load(DOMAIN).methods == {}


def test_the_xml_is_beside_the_module_or_in_the_tree() -> None:
    with pytest.raises(FileNotFoundError):
        load("org.hostler1.Nothing")


async def test_every_method_answers_as_its_signature_says(private_bus: Any, codec: Codec) -> None:
    service = FakeService()
    async with face(private_bus.address, codec, service) as client:
        for name, method in load(MANAGER).methods.items():
            given: dict[str, object] = {"options": {}, "cpus": 2}
            arguments = tuple(given.get(name, "x") for name in method.parameters)
            answer = await client.get(ROOT, MANAGER, name, method.takes, *arguments)
            assert len(answer) == len(method.gives)
        devices = json.loads((await client.get(ROOT, MANAGER, "Devices"))[0])
        assert devices == [DEVICE_JSON]
        assert (await client.get(ROOT, MANAGER, "Reload")) == (True,)
        own_name = client.bus.unique_name
    assert {method for _, method, _ in service.calls} == {wire for wire, _ in METHODS.values()}
    by_process = {peer for peer, method, _ in service.calls if method == BY_PROCESS}
    assert {peer for peer, _, _ in service.calls} - by_process == {Peer(bus_name=own_name)}
    assert {(peer.bus_name, peer.uid, peer.pid, peer.start_time) for peer in by_process} == {
        (own_name, os.getuid(), os.getpid(), started(os.getpid()))
    }
    assert [dict(p) for _, m, p in service.calls if m in ("domains", "plan", "retry", "gpu")] == [
        {"name": "x"},
        {"domain": "x"},
        {"object": "x"},
        {"domain": "x", "way": "x", "what": "x"},
    ]


async def test_options_of_a_request_are_its_parameters(private_bus: Any, codec: Codec) -> None:
    service = FakeService()
    options = {"dry_run": Variant("b", True), "model": Variant("s", "qxl")}
    async with face(private_bus.address, codec, service) as client:
        (answer,) = await client.get(ROOT, MANAGER, "SetGpu", "sssa{sv}", "win11", "emulated", "", options)
    assert json.loads(answer) == {"changed": True}
    ((_, method, params),) = service.calls
    assert method == "gpu"
    assert params == {"domain": "win11", "way": "emulated", "what": "", "dry_run": True, "model": "qxl"}


async def test_a_descriptor_goes_along_and_ours_is_closed(private_bus: Any, codec: Codec) -> None:
    service, lease = FakeService(), Lease()
    service.answers["isolate"] = Handed({"cpus": "2-3", "id": "a1"}, lease.theirs)
    hello = Message(kind=Kind.CALL, serial=1, destination=BUS, path=BUS_PATH, interface=BUS, member="Hello")
    call = Message(
        kind=Kind.CALL,
        serial=2,
        destination=NAME,
        path=ROOT,
        interface=MANAGER,
        member="Isolate",
        signature="ua{sv}",
        body=(2, {"same_l3": Variant("b", True)}),
    )
    received: list[int] = []
    async with face(private_bus.address, codec, service):
        with trio.fail_after(SOON), await shaken_hands(private_bus.address) as sock:
            sock.send(codec.encode(hello) + codec.encode(call))
            answer = await _answer(sock, codec, received)
        assert answer.signature == "hss"
        assert answer.body == (0, "2-3", "a1")
        ((peer, _, params),) = service.calls
        assert peer.pid == os.getpid()
        assert params == {"cpus": 2, "same_l3": True}
        with trio.move_on_after(0.05) as soon:
            await lease.wait_ended()
        assert soon.cancelled_caught
        os.close(received.pop())  # the last one
        with trio.fail_after(SOON):
            await lease.wait_ended()
    lease.close()


# -- properties and objects -------------------------------------------------------------------------------------------


async def test_managed_objects_and_properties(private_bus: Any, codec: Codec) -> None:
    async with face(private_bus.address, codec, FakeService()) as client:
        (objects,) = await client.get(ROOT, OBJECT_MANAGER, "GetManagedObjects")
        (state,) = await client.get(ROOT, PROPERTIES, "Get", "ss", MANAGER, "State")
        (degraded,) = await client.get(ROOT, PROPERTIES, "Get", "ss", "", "Degraded")
        (everything,) = await client.get(ROOT, PROPERTIES, "GetAll", "s", "")
    assert set(objects) == {CARD, GUEST, NAMED}
    assert objects[NAMED][MANAGER]["State"] == "converged"
    assert objects[CARD][DEVICE]["Driver"] == "nvidia"
    assert objects[CARD][DEVICE]["NumaNode"] == -1
    assert objects[CARD][DEVICE]["Companions"] == ["0000:01:00.1"]
    assert objects[GUEST][DOMAIN]["VcpuPins"] == {0: "2,10", 1: "3"}
    guest = objects[GUEST][DOMAIN]
    assert (guest["Placement"], guest["EmulatorCpus"], guest["IdleCpus"]) == ("dedicated", "4", "5,7")
    assert objects[GUEST][DOMAIN]["EmulatorPins"] == ""
    assert objects[GUEST][DOMAIN]["Devices"] == ["0000:01:00.0"]
    assert (state, degraded) == ("converged", [["0000:02:00.0", "it hangs", "reboot"]])
    assert everything["Isolated"] == "2-5"


async def test_only_differences_are_told(private_bus: Any, codec: Codec) -> None:
    service = FakeService()
    async with face(private_bus.address, codec, service) as client:
        service.publish(status=STATUS_JSON | {"pass": 4})  # of no interest
        await trio.testing.wait_all_tasks_blocked()
        service.publish(
            devices=(DEVICE_JSON | {"driver": "vfio-pci", "owner": {"kind": "domain", "who": "win11"}},)
        )
        ((path, member, body),) = await client.next(1)
        assert (path, member) == (CARD, "PropertiesChanged")
        assert body == (DEVICE, {"Driver": "vfio-pci", "OwnerKind": "domain", "Owner": "win11"}, [])
        service.publish(
            status=STATUS_JSON | {"state": "degraded"},
            devices=(DEVICE_JSON | {"address": "0000:02:00.0"},),
            domains=(),
        )
        signals = await client.next(5)
        assert [(path, member) for path, member, _ in signals] == [
            (ROOT, "InterfacesRemoved"),
            (ROOT, "InterfacesRemoved"),
            (ROOT, "PropertiesChanged"),
            (NAMED, "PropertiesChanged"),
            (ROOT, "InterfacesAdded"),
        ]
        assert signals[0][2] == (CARD, [DEVICE])
        assert signals[2][2] == (MANAGER, {"State": "degraded"}, [])
        assert signals[4][2][0] == f"{ROOT}/device/_0000_02_00_0"
        assert signals[4][2][1][DEVICE]["Address"] == "0000:02:00.0"
        (objects,) = await client.get(ROOT, OBJECT_MANAGER, "GetManagedObjects")
        assert set(objects) == {f"{ROOT}/device/_0000_02_00_0", NAMED}


async def test_events_are_signals(private_bus: Any, codec: Codec) -> None:
    service = FakeService()
    async with face(private_bus.address, codec, service) as client:
        event = {"time": 1.5, "kind": "device", "object": "0000:01:00.0", "text": "häßlich\0\ud800"}
        service.tell.send_nowait(event)
        ((path, member, (text,)),) = await client.next(1)
    assert (path, member) == (ROOT, "Event")
    assert json.loads(text) == event


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "interface_name", "member", "signature", "body", "error"),
    [
        (ROOT + "/x", MANAGER, "Status", "", (), "UnknownObject"),
        ("/org/hostler", MANAGER, "Status", "", (), "UnknownObject"),
        (ROOT + "/device", PROPERTIES, "GetAll", "s", ("",), "UnknownInterface"),
        (CARD, MANAGER, "Status", "", (), "UnknownInterface"),
        (CARD, OBJECT_MANAGER, "GetManagedObjects", "", (), "UnknownInterface"),
        (ROOT, MANAGER, "Explode", "", (), "UnknownMethod"),
        (ROOT, "", "Explode", "", (), "UnknownMethod"),
        (ROOT, MANAGER, "Status", "s", ("x",), "InvalidArgs"),
        (ROOT, MANAGER, "Plan", "", (), "InvalidArgs"),
        (ROOT, PROPERTIES, "Get", "ss", (MANAGER, "Nothing"), "UnknownProperty"),
        (ROOT, PROPERTIES, "Get", "ss", (DEVICE, "Name"), "UnknownInterface"),
        (ROOT, PROPERTIES, "Get", "ss", (PROPERTIES, "Name"), "UnknownProperty"),
        (ROOT, PROPERTIES, "GetAll", "s", (DEVICE,), "UnknownInterface"),
    ],
)
async def test_mistakes_of_a_caller_have_standard_names(
    private_bus: Any,
    codec: Codec,
    path: str,
    interface_name: str,
    member: str,
    signature: str,
    body: tuple[Any, ...],
    error: str,
) -> None:
    async with face(private_bus.address, codec, FakeService()) as client:
        with pytest.raises(CallFailed) as failed:
            await client.get(path, interface_name, member, signature, *body)
        assert failed.value.name == "org.freedesktop.DBus.Error." + error
        assert failed.value.message


async def test_a_call_without_an_interface_is_answered(private_bus: Any, codec: Codec) -> None:
    service = FakeService()
    async with face(private_bus.address, codec, service) as client:
        assert json.loads((await client.get(ROOT, "", "Cpus"))[0]) == {"online": [0]}
        assert json.loads((await client.get(ROOT, MANAGER, "CpusIf", "s", "win11"))[0]) == {"online": [0]}
        assert service.calls[-1][1:] == ("cpus", {"what_if": "win11"})


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (Claimed("taken", remedy="wait"), "org.hostler1.Error.Claimed", "taken; wait"),
        (NotAuthorised("no"), "org.hostler1.Error.NotAuthorised", "no"),
        (HostFailed("no\0\ud800!"), "org.hostler1.Error.HostFailed", "no\ufffd?!"),
    ],
)
async def test_errors_of_the_service_have_their_names(
    private_bus: Any, codec: Codec, error: Exception, name: str, message: str
) -> None:
    service = FakeService()
    service.answers["retry"] = error
    async with face(private_bus.address, codec, service) as client:
        with pytest.raises(CallFailed) as failed:
            await client.get(ROOT, MANAGER, "Retry", "s", "0000:01:00.0")
    assert (failed.value.name, failed.value.message) == (name, message)


async def test_a_fault_of_ours_shows_no_traceback_and_ends_nothing(
    private_bus: Any, codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    service = FakeService()
    service.answers["status"] = ZeroDivisionError("secret")
    async with face(private_bus.address, codec, service) as client:
        with pytest.raises(CallFailed) as failed:
            await client.get(ROOT, MANAGER, "Status")
        assert failed.value.name == "org.hostler1.Error.Internal"
        assert "secret" not in failed.value.message
        assert "secret" in caplog.text
        assert await client.get(ROOT, MANAGER, "Cpus")


async def test_the_face_comes_back_with_the_bus(private_bus: Any, codec: Codec) -> None:
    service = FakeService()
    async with face(private_bus.address, codec, service) as client:
        await trio.to_thread.run_sync(private_bus.stop)
        with trio.fail_after(SOON):
            while client.bus.connected:  # noqa: ASYNC110
                await trio.sleep(0.01)
        service.publish(status=STATUS_JSON | {"state": "working"})
        await trio.to_thread.run_sync(private_bus.start)
        with trio.fail_after(SOON):
            while True:
                try:
                    (state,) = await client.get(ROOT, PROPERTIES, "Get", "ss", MANAGER, "State")
                    break
                except Exception:  # noqa: BLE001 - not yet back
                    await trio.sleep(0.02)
        assert state == "working"


async def test_busctl_shows_the_tree(private_bus: Any, codec: Codec) -> None:
    async with face(private_bus.address, codec, FakeService()) as client:

        async def busctl(*arguments: str) -> str:
            return await trio.to_thread.run_sync(private_bus.busctl, *arguments)

        assert (await busctl("tree", "--list", NAME)).split() == [
            "/",
            "/org",
            ROOT,
            NAMED,
            f"{ROOT}/device",
            CARD,
            f"{ROOT}/domain",
            GUEST,
        ]
        shown = await busctl("introspect", NAME, CARD, DEVICE)
        assert ".Driver" in shown
        assert "nvidia" in shown
        assert await busctl("get-property", NAME, ROOT, MANAGER, "State") == 's "converged"\n'
        with pytest.raises(subprocess.CalledProcessError) as refused:
            await busctl("set-property", NAME, ROOT, MANAGER, "State", "s", "x")
        assert "cannot be set" in refused.value.stderr
        await client.get(ROOT, "org.freedesktop.DBus.Peer", "Ping")
