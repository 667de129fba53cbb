"""The D-Bus face: bus name org.hostler1, Manager and ObjectManager at /org/hostler1, devices and domains below it.

Rules: what is shown is what the last pass published, translated here and nowhere else; a request is parsed, handed to
the service and its answer formatted. No decision, no authorization (the service's), no waiting for the host.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import trio

from hostler.errors import HostlerError, TimedOut, Unreachable, dbus_name
from hostler.wire import BUS_NAME, OBJECT_ROOT
from hostlerd.api import Handed, Json, Peer, Published, Service
from hostlerd.api.barrier import answer
from hostlerd.api.interfaces import load
from hostlerd.api.objects import Objects, Values
from hostlerd.host.bus import BUS, BUS_PATH, Bus, CallFailed, Message, Reply
from hostlerd.host.processes import started
from hostlerd.model.cpuset import format_cpu_list

MANAGER = "org.hostler1.Manager"
MANAGER_PATH = f"{OBJECT_ROOT}/Manager"
DEVICE = "org.hostler1.Device"
DOMAIN = "org.hostler1.Domain"

METHODS: Mapping[str, tuple[str, Callable[[Any], tuple[Any, ...]]]] = {
    "Status": ("status", lambda result: (_json(result),)),
    "Devices": ("devices", lambda result: (_json(result["devices"]),)),
    "Cpus": ("cpus", lambda result: (_json(result),)),
    "CpusIf": ("cpus", lambda result: (_json(result),)),
    "Domains": ("domains", lambda result: (_json(result["domains"]),)),
    "Plan": ("plan", lambda result: (_json(result),)),
    "Doctor": ("doctor", lambda result: (_json(result),)),
    "Reload": ("reload", lambda result: (bool(result["changed"]),)),
    "Retry": ("retry", lambda _: ()),
    "SetGpu": ("gpu", lambda result: (_json(result),)),
    "Isolate": ("isolate", lambda result: (0, result["cpus"], result["id"])),
    "SetPins": ("pins", lambda result: (_json(result),)),
}
"""Method of Manager to the service's method, and its result to what goes out. Parameters have the XML's names."""

BY_PROCESS = "isolate"
"""What concerns the process that calls, and not what it may do alone."""
_GIVES = {name: method.gives for name, method in load(MANAGER).methods.items()}


async def serve(bus: Bus, service: Service) -> None:
    """Show what is published and answer requests until cancelled; the bus may come and go."""

    async def perform(call: Message, parameters: tuple[str, ...]) -> Reply:
        method, result = METHODS[call.member]
        peer = Peer(bus_name=call.sender, interactive=call.interactive)
        if method == BY_PROCESS:
            peer = await _with_process(bus, peer)
        params = dict(zip(parameters, call.body, strict=True))
        params |= params.pop("options", {})
        try:
            given = await answer(service, peer, method, params)
        except HostlerError as error:
            raise CallFailed(dbus_name(error), error.sentence) from error
        fds = (given.descriptor,) if isinstance(given, Handed) else ()
        return Reply(_GIVES[call.member], result(given), fds)

    async def forward() -> None:
        async with service.subscribe() as events:
            async for event in events:
                bus.emit(OBJECT_ROOT, MANAGER, "Event", "s", _json(event))

    published = service.published
    objects = Objects(
        OBJECT_ROOT, {name: load(name) for name in (MANAGER, DEVICE, DOMAIN)}, bus.emit, perform
    )
    objects.show(tree(published))
    bus.serve(BUS_NAME, objects.answer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(forward)
        while True:
            published = await service.wait_published(published)
            objects.show(tree(published))


async def _with_process(bus: Bus, peer: Peer) -> Peer:
    """The peer with its process, as the bus knows it (GetConnectionCredentials). Raises CallFailed."""
    try:
        (known,) = await bus.call(BUS, BUS_PATH, BUS, "GetConnectionCredentials", "s", peer.bus_name)
    except (TimedOut, Unreachable) as error:
        raise CallFailed(dbus_name(error), error.sentence) from error
    pid, uid = known.get("ProcessID"), known.get("UnixUserID")
    return replace(peer, uid=uid, pid=pid, start_time=None if pid is None else started(pid))


def tree(published: Published) -> Values:
    """All objects and their properties, by path."""
    shown = {MANAGER: manager(published.status)}
    # At both, for who goes by the object's name and for who goes by the root that has the ObjectManager.
    objects: dict[str, Mapping[str, Mapping[str, Any]]] = {OBJECT_ROOT: shown, MANAGER_PATH: shown}
    for one in published.devices:
        objects[object_path("device", _text(one.get("address")))] = {DEVICE: device(one)}
    for one in published.domains:
        objects[object_path("domain", _text(one.get("uuid")))] = {DOMAIN: domain(one)}
    return objects


def object_path(kind: str, name: str) -> str:
    """``0000:01:00.0`` is ``/org/hostler1/device/_0000_01_00_0``; a digit in front is not everywhere a name."""
    return f"{OBJECT_ROOT}/{kind}/_{re.sub('[^A-Za-z0-9]', '_', name)}"


def manager(status: Json) -> dict[str, Any]:
    isolation: Json = status.get("isolation") or {}
    degraded: list[Json] = status.get("degraded") or []
    return {
        "Version": _text(status.get("version")),
        "State": _text(status.get("state")),
        "Pass": _number(status.get("pass"), 0),
        "Degraded": [
            tuple(_text(one.get(key)) for key in ("object", "reason", "remedy")) for one in degraded
        ],
        "Isolated": _cpus(isolation.get("cpus")),
    }


def device(one: Json) -> dict[str, Any]:
    owner: Json = one.get("owner") or {}
    sriov: Json = one.get("sriov") or {}
    slices: Json = one.get("slices") or {}
    return {
        "Address": _text(one.get("address")),
        "Name": _text(one.get("name")),
        "Vendor": _text(one.get("vendor")),
        "DeviceId": _text(one.get("device")),
        "Class": _text(one.get("class")),
        "Driver": _text(one.get("driver")),
        "IommuGroup": _number(one.get("iommu_group"), -1),
        "Group": _texts(one.get("group")),
        "Companions": _texts(one.get("companions")),
        "NumaNode": _number(one.get("numa_node"), -1),
        "BootVga": bool(one.get("boot_vga")),
        "OwnerKind": _text(owner.get("kind")),
        "Owner": _text(owner.get("who")),
        "PhysicalFunction": _text(one.get("physfn")),
        "VirtualFunctions": _texts(sriov.get("vfs")),
        "MostVirtualFunctions": _number(sriov.get("total"), 0),
        "SliceTypes": [
            (_text(kind.get("type")), _number(kind.get("available"), -1))
            for kind in slices.get("types") or ()
        ],
        "Slices": [
            (_text(s.get("uuid") or s.get("address")), _text(s.get("type")), _text(s.get("domain")))
            for s in slices.get("instances") or ()
        ],
    }


def domain(one: Json) -> dict[str, Any]:
    vcpus: Json = one.get("vcpus") or {}
    hostdevs: list[Json] = one.get("hostdevs") or []
    placement: Json = one.get("placement") or {}
    return {
        "Name": _text(one.get("name")),
        "Uuid": _text(one.get("uuid")),
        "State": _text(one.get("state")),
        "Gpu": _text(one.get("gpu")),
        "Vcpus": _number(vcpus.get("current"), 0),
        "VcpuPins": _pins((one.get("live_pins") or {}).get("vcpus") or one.get("vcpu_pins")),
        "EmulatorPins": _cpus(one.get("emulator_pins")),
        "IothreadPins": _pins(one.get("iothread_pins")),
        "Placement": _text(placement.get("mode")),
        "EmulatorCpus": _cpus(placement.get("emulator")),
        "IdleCpus": _cpus(placement.get("idle")),
        "Devices": [_text(h.get("address")) for h in hostdevs if h.get("kind") == "pci"],
    }


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _texts(values: Any) -> list[str]:
    return [_text(value) for value in values or ()]


def _number(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def _cpus(value: Any) -> str:
    return value if isinstance(value, str) else format_cpu_list(value or ())


def _pins(pins: Mapping[Any, Any] | None) -> dict[int, str]:
    return {int(index): _cpus(cpus) for index, cpus in (pins or {}).items()}
