"""The one service behind both faces: authorise, check the parameters, do it.

Knows no transport and makes no decision of its own: reading answers from what the last pass published, changing goes
through the reconciler.

Longer than 400 lines because it is the one table of what can be asked: a method is a line there and a few lines here.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import trio

from hostler import __version__
from hostler.errors import BadInput, Unreachable
from hostler.wire import SIMULATE_METHOD
from hostlerd.api import Handed, Json, Peer, Published
from hostlerd.api.events import Events
from hostlerd.api.programs import asked_name, asked_program
from hostlerd.decide.closure import companions
from hostlerd.decide.doctor import diagnose
from hostlerd.decide.explained import Explained, outlines, owners
from hostlerd.host import Host
from hostlerd.model.domains import Definition
from hostlerd.model.edits import MODELS, Model, users_own
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Plan
from hostlerd.observe.checkup import observe_checkup
from hostlerd.observe.domain_xml import parse_domain
from hostlerd.observe.grip import grips
from hostlerd.observe.holders import look_for_holders, with_names
from hostlerd.observe.names import device_names
from hostlerd.observe.pci import moved
from hostlerd.reconcile import Reconciler
from hostlerd.reconcile.defined import Edited
from hostlerd.reconcile.gpu import ASKED, Asked, GpuRequest
from hostlerd.reconcile.pins import PinsRequest
from hostlerd.report.cpus import cpus_json
from hostlerd.report.devices import devices_json
from hostlerd.report.doctor import doctor_json
from hostlerd.report.domains import domain_json, edit_json, memory_json, pins_edit_json, running_json
from hostlerd.report.placement import outline_json, owners_json, placement_json, placements_json, what_if_json
from hostlerd.report.plan import hugepages_json, plan_json, status_json

LOOK_LIMIT = 5.0
"""Seconds one look at the processes may take."""

EXPLAIN_LIMIT = 15.0
"""Seconds an explanation may take: some plans of a large host."""

FRESH_LIMIT = 2.0
"""Seconds `status` may take to look again where something has moved."""

T = TypeVar("T")

Reload = Callable[[], Awaitable[bool]]
Simulate = Callable[[str, Mapping[str, Any]], Awaitable[Json]]


class Authorize(Protocol):
    async def check(self, peer: Peer, method: str) -> None: ...


class HostlerService:
    def __init__(
        self,
        *,
        host: Host,
        authorize: Authorize,
        events: Events,
        reload: Reload,
        simulate: Simulate | None = None,
    ) -> None:
        self._host, self._authorize, self._events = host, authorize, events
        self._reload, self._simulate = reload, simulate
        self.reconciler: Reconciler | None = None
        self._published = Published(status={"version": __version__, "state": "working", "pass": 0})
        self._changed = trio.Event()
        self._observed: Observed | None = None
        self._plan = Plan()

    # What the faces read

    @property
    def published(self) -> Published:
        return self._published

    async def wait_published(self, previous: Published) -> Published:
        while self._published is previous:
            await self._changed.wait()
        return self._published

    def subscribe(self) -> trio.MemoryReceiveChannel[Json]:
        return self._events.subscribe()

    def publish(self, observed: Observed, plan: Plan, passes: int) -> None:
        """Take over what a pass found; the faces are told."""
        self._observed, self._plan = observed, plan
        devices = devices_json(
            observed.functions,
            owners=plan.owners,
            names=device_names(observed.functions.values()),
            companions=lambda address: companions(observed.functions, address),
            holders=(),
            slices=observed.slices,
        )
        claims = observed.ledger.claims
        running = [
            running_json(
                d,
                users_own(
                    d.definition or (claims[d.uuid].definition if d.uuid in claims else d.live),
                    observed.edits,
                ),
                slices=observed.slices,
                functions=observed.functions,
            )
            for d in observed.snapshot.running
        ]
        idle = [
            domain_json(
                users_own(d, observed.edits),
                state="shut off",
                slices=observed.slices,
                functions=observed.functions,
            )
            for d in observed.snapshot.inactive
        ]
        pages = hugepages_json(observed.ledger)
        given = outlines(observed, self._loop().settings, plan)
        published = Published(
            status=status_json(
                version=__version__, passes=passes, observed=observed, plan=plan, devices=devices
            ),
            devices=tuple(devices),
            domains=tuple(
                {
                    **d,
                    "notes": [
                        *d["notes"],
                        *plan.notes.get(d["uuid"], ()),
                        *(f"{c.reason}; {c.remedy}" for c in plan.cautions if c.object == d["name"]),
                    ],
                    "added_hugepages": [row for row in pages if row["uuid"] == d["uuid"]],
                    "memory": memory_json(observed.guest_memory, d["uuid"]),
                    "edit": edit_json(observed.edits, d["uuid"]),
                    "pins_edit": pins_edit_json(observed.edits, d["uuid"]),
                    "placement": outline_json(given[d["uuid"]]) if d["uuid"] in given else None,
                }
                for d in running + idle
            ),
            cpus=cpus_json(observed.topology),
            plan=plan_json(plan),
        )
        if published != self._published:
            self._published = published
            self._changed.set()
            self._changed = trio.Event()

    # Requests

    async def call(self, peer: Peer, method: str, params: Mapping[str, Any]) -> Json:
        await self._authorize.check(peer, method)
        match method:
            case "hello" | "subscribe":
                return {"version": __version__}
            case "status":
                await self._look_if_changed()
                return self._status()
            case "devices":
                return {"devices": await self._devices()}
            case "cpus":
                return await self._cpus(params)
            case "domains":
                return {"domains": await self._domains(params)}
            case "plan":
                return await self._plan_for(params)
            case "doctor":
                return await self._doctor()
            case "prepare":
                return await self._prepare(params)
            case "release":
                await self._release(params)
                return {}
            case "hook":
                self._loop().look_at_domains.kick()
                return {}
            case "reload":
                return {"changed": await self._reload()}
            case "retry":
                return await self._retry(params)
            case "gpu":
                return await self._edited(await self._loop().change_gpu(_gpu_request(params)))
            case "pins":
                return await self._edited(await self._loop().change_pins(_pins_request(params)))
            case "isolate":
                return await self._isolate(peer, params)
            case _ if method == SIMULATE_METHOD and self._simulate is not None:
                return await self._simulate(_text(params, "action"), params)
            case _:
                raise BadInput(f"there is no method {method!r}", remedy="see `hostler --help`")

    def _loop(self) -> Reconciler:
        assert self.reconciler is not None  # noqa: S101 - wired before the faces are opened
        return self.reconciler

    async def _look_if_changed(self) -> None:
        """Where a driver's link is another than the last pass saw, whoever asks gets what the next one sees.

        Nothing tells when a driver's remove() begins to wait: the event comes when it returns.
        """
        observed, published = self._observed, self._published
        if observed is None or self._loop().busy:
            return
        functions = tuple(observed.functions.values())
        with trio.move_on_after(FRESH_LIMIT):
            if await self._host.look(lambda: moved(self._host.files, functions), limit=LOOK_LIMIT):
                self._loop().look_at_host.kick()
                await self.wait_published(published)

    def _status(self) -> Json:
        """As the last pass left it, with what changes between passes."""
        status, why = self._published.status, self._loop().awake.refused_with
        busy = self._loop().busy and status["state"] == "converged"
        return {
            **status,
            "state": "working" if busy else status["state"],
            "sleep": {"refused": bool(why), "why": why or None},
        }

    async def _devices(self) -> list[Json]:
        """With the processes that have them open, which are looked for only now: it costs a walk through /proc."""
        observed, files = self._observed, self._host.files
        if observed is None:
            return []
        functions = tuple(observed.functions.values())
        found = await look_for_holders(self._host, functions, limit=LOOK_LIMIT)
        busy = await self._host.look(lambda: grips(files, functions), limit=LOOK_LIMIT)
        return devices_json(
            observed.functions,
            owners=self._plan.owners,
            names=device_names(observed.functions.values()),
            companions=lambda address: companions(observed.functions, address),
            holders=await with_names(self._host.engines, found),
            grips=busy,
            slices=observed.slices,
        )

    async def _cpus(self, params: Mapping[str, Any]) -> Json:
        """Who has what is read off the last plan; `what_if`: a domain to be planned as if it started now."""
        observed, plan, settings = self._observed, self._plan, self._loop().settings
        if observed is None:
            return self._published.cpus
        if params.get("what_if") in (None, ""):
            found = owners(observed, settings, plan)
            return {**self._published.cpus, **owners_json(found, plan.housekeeping)}
        definition = await self._idle_domain(_text(params, "what_if"))
        asked, then = await self._loop().imagine(definition)

        def explained() -> Json:
            found = Explained(asked, settings, then, {definition.uuid})
            of_it = found.of(definition.uuid)
            assert of_it is not None  # noqa: S101 - it was asked for
            moves = tuple(found.moves(plan.housekeeping))
            return {
                **cpus_json(asked.topology),
                **owners_json(found.owners(), found.housekeeping),
                "what_if": what_if_json(of_it, moves, then),
            }

        return await self._host.look(explained, limit=EXPLAIN_LIMIT)

    async def _domains(self, params: Mapping[str, Any]) -> list[Json]:
        """With why it has the CPUs it has, where one is asked for: that costs plans."""
        name = params.get("name")
        found = [d for d in self._published.domains if name in (None, "", d["name"], d["uuid"])]
        if not found and not self._libvirt_known():
            raise Unreachable("libvirt cannot be reached", remedy="start libvirtd or virtqemud")
        if name and not found:
            raise BadInput(f"libvirt has no domain {name!r}", remedy="`hostler domains` lists them")
        if not name or self._observed is None:
            return found
        observed, plan, settings = self._observed, self._plan, self._loop().settings
        uuids = [domain["uuid"] for domain in found]

        def explained() -> list[Json | None]:
            reasons = Explained(observed, settings, plan)
            return [placement_json(one) if (one := reasons.of(uuid)) else None for uuid in uuids]

        placements = await self._host.look(explained, limit=EXPLAIN_LIMIT)
        return [{**d, "placement": placement} for d, placement in zip(found, placements, strict=True)]

    def _libvirt_known(self) -> bool:
        return self._observed is not None and self._observed.snapshot.known

    async def _plan_for(self, params: Mapping[str, Any]) -> Json:
        domain = params.get("domain")
        if domain in (None, ""):
            return plan_json(await self._loop().what_now())
        definition, settings = await self._idle_domain(str(domain)), self._loop().settings
        asked, plan = await self._loop().imagine(definition)
        found = await self._host.look(
            lambda: Explained(asked, settings, plan, {definition.uuid}).of(definition.uuid),
            limit=EXPLAIN_LIMIT,
        )
        return {**plan_json(plan), "placements": placements_json([found] if found else [])}

    async def _idle_domain(self, name: str) -> Definition:
        """A domain that could be started, by name or UUID; one that was defined a moment ago, too.

        Raises BadInput, Unreachable.
        """
        observed = self._observed
        if observed is None or not observed.snapshot.known:
            raise Unreachable("libvirt cannot be reached", remedy="start libvirtd or virtqemud")
        if any(name in (running.name, running.uuid) for running in observed.snapshot.running):
            raise BadInput(
                f"{name} runs already",
                remedy=f"`hostler domains {name}` says where it is and why, `hostler cpus` who has what",
            )
        found = next((d for d in observed.snapshot.inactive if name in (d.name, d.uuid)), None)
        if found is None:
            now = await self._host.hypervisor.inactive()
            found = next((d for d in now if name in (d.name, d.uuid)), None)
        if found is None:
            raise BadInput(
                f"libvirt has no domain {name!r} that is shut off", remedy="`hostler domains` lists them"
            )
        return found

    async def _doctor(self) -> Json:
        """What the last pass saw, and a look at what it has no use for."""
        observed, files = self._observed, self._host.files
        if observed is None:
            raise Unreachable("the daemon has not looked at the host yet", remedy="ask again in a moment")
        settings = self._loop().settings
        # The planner is asked for all domains at once, so judging takes its time, too.
        return await self._host.look(
            lambda: doctor_json(diagnose(observe_checkup(files, live=True, observed=observed), settings)),
            limit=EXPLAIN_LIMIT,
        )

    async def _prepare(self, params: Mapping[str, Any]) -> Json:
        xml = _text(params, "xml")
        definition = parse_domain(xml)
        name = params.get("name")
        if isinstance(name, str) and name and name != definition.name:
            definition = replace(definition, name=name)
        return {"devices": await self._loop().prepare(definition, xml)}

    async def _release(self, params: Mapping[str, Any]) -> None:
        """By the XML's UUID; by the name alone where the XML is missing or broken, because a claim must end."""
        try:
            uuid = parse_domain(_text(params, "xml")).uuid
        except BadInput:
            name = _text(params, "name")
            uuid = self._loop().claim_of(name) or ""
            if not uuid:
                raise
        await self._loop().release(uuid, str(params.get("name") or uuid))

    async def _edited(self, edited: Edited) -> Json:
        definition, outcome = edited
        return {
            "domain": definition.name,
            "uuid": definition.uuid,
            "changed": outcome.changed,
            "diff": outcome.diff,
            "before": outcome.before,
            "after": outcome.after,
            "notes": await self._notes(outcome.xml),
        }

    async def _isolate(self, peer: Peer, params: Mapping[str, Any]) -> Handed:
        """For the process that calls: it is moved, so it has to be known for certain which that is."""
        if peer.uid is None or peer.pid is None or peer.start_time is None:
            raise BadInput(
                "it is not known for certain which process calls",
                remedy="call from a process that goes on, in the PID namespace of the host",
            )
        name = asked_name(params) or self._command(peer.pid)
        program = asked_program(
            params, name=name, uid=peer.uid, pid=peer.pid, start=peer.start_time, ident=secrets.token_hex(4)
        )
        given, descriptor = await self._loop().isolate(program)
        answer = {"id": given.id, "name": given.name, "cpus": given.cpus, "scope": given.scope}
        return Handed(answer, descriptor)

    def _command(self, pid: int) -> str:
        """As it can be shown: a process may call itself anything (prctl(2), PR_SET_NAME)."""
        try:
            name = self._host.files.read(f"/proc/{pid}/comm")
        except OSError:
            name = ""
        return "".join(letter for letter in name if letter.isprintable()).strip() or f"process {pid}"

    async def _notes(self, xml: str) -> list[str]:
        """What would be in the way of a start with this definition."""
        if not xml:
            return []
        plan = await self._loop().what_if(parse_domain(xml))
        return [f"{r.reason}; {r.remedy}" for r in plan.refusals if r.claim is not None]

    async def _retry(self, params: Mapping[str, Any]) -> Json:
        obj = _text(params, "object")
        if not await self._loop().retry(obj):
            raise BadInput(f"{obj!r} is not degraded", remedy="`hostler status` lists what is")
        return {}


def _gpu_request(params: Mapping[str, Any]) -> GpuRequest:
    """Raises BadInput."""
    way: Asked = _choice(params, "way", ASKED)
    model: Model | None = _choice(params, "model", MODELS) if params.get("model") else None
    if model is not None and way != "emulated":
        raise BadInput(f"a model is of an emulated display, not of {way}", remedy="leave out the model")
    flags = {name: _flag(params, name, default=name == "video") for name in ("video", "live", "dry_run")}
    needed = way in ("passthrough", "slice")
    return GpuRequest(
        domain=_text(params, "domain"),
        way=way,
        what=_text(params, "what") if needed else "",
        model=model,
        video=flags["video"],
        live=flags["live"],
        dry_run=flags["dry_run"],
    )


def _pins_request(params: Mapping[str, Any]) -> PinsRequest:
    """Raises BadInput."""
    return PinsRequest(
        domain=_text(params, "domain"), undo=_flag(params, "undo"), dry_run=_flag(params, "dry_run")
    )


def _flag(params: Mapping[str, Any], key: str, *, default: bool = False) -> bool:
    flag = params.get(key, default)
    if not isinstance(flag, bool):
        raise BadInput(f"the parameter {key!r} is true or false")
    return flag


def _choice(params: Mapping[str, Any], key: str, choices: tuple[T, ...]) -> T:
    value = params.get(key)
    for choice in choices:
        if value == choice:
            return choice
    raise BadInput(f"the parameter {key!r} is one of {', '.join(map(str, choices))}, not {value!r:.40}")


def _text(params: Mapping[str, Any], key: str) -> str:
    value = params.get(key)
    if not isinstance(value, str) or not value:
        raise BadInput(f"the parameter {key!r} is missing or no text")
    return value
