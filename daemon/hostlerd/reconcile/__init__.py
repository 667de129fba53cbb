"""The loop: observe, decide, act, observe again, publish. In two lanes.

The *host lane* moves devices and slices and never waits for libvirt, because libvirt may be waiting for it: while a
hook runs, every call on a domain blocks. The *libvirt lane* takes snapshots of the domains and sets pins. Both ask the
same `decide`; each performs its own steps of the plan. What wakes a lane says only "look again".

A pass is one of the daemon's two catch-alls: a fault in it is logged with its traceback, told to whoever waits for a
preparation, and tried again after a pause.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import trio

from hostler.errors import HostlerError, Internal, Unreachable
from hostlerd.act.definitions import Definitions
from hostlerd.act.journal import Journal
from hostlerd.act.memory import Memory
from hostlerd.host import Host
from hostlerd.log import about
from hostlerd.model.domains import Definition
from hostlerd.model.ledger import Claim
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Plan
from hostlerd.model.settings import Settings
from hostlerd.reconcile.claims import Claims
from hostlerd.reconcile.gpu import GpuChanges
from hostlerd.reconcile.host_lane import HostLane
from hostlerd.reconcile.latch import Latch
from hostlerd.reconcile.libvirt_lane import LibvirtLane
from hostlerd.reconcile.pins import PinsChanges
from hostlerd.reconcile.programs import Programs
from hostlerd.reconcile.returns import Returns
from hostlerd.reconcile.shared import Observe, Publish, Shared, Tell

__all__ = ["Latch", "Observe", "Publish", "Reconciler", "Tell"]

log = logging.getLogger(__name__)

PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a pass that failed is tried again."""


class Reconciler:
    """The lanes and what may be asked of them. `tell` announces; `publish` gets each finished pass."""

    def __init__(
        self,
        *,
        host: Host,
        journal: Journal,
        settings: Settings,
        observe: Observe,
        tell: Tell,
        publish: Publish,
    ) -> None:
        self._shared = Shared(
            host=host,
            journal=journal,
            settings=settings,
            observe=observe,
            tell=tell,
            publish=publish,
            definitions=Definitions(host),
            memory=Memory(host),
        )
        self._claims = Claims(self._shared)
        programs = Programs(self._shared, self._claims)
        self._host_lane = HostLane(self._shared, self._claims, programs)
        self._libvirt_lane = LibvirtLane(self._shared, self._claims)
        self.awake = self._shared.awake
        self.lending = self._shared.lending
        self.run_returns = Returns(self._shared).run
        self.run_guest_memory = self._shared.guests.run
        self.prepare = self._claims.prepare
        self.release = self._claims.release
        self.isolate = programs.isolate
        self.run_programs = programs.run
        self.change_gpu = GpuChanges(self._shared).change
        self.change_pins = PinsChanges(self._shared).change

    @property
    def look_at_host(self) -> Latch:
        return self._shared.look_at_host

    @property
    def look_at_domains(self) -> Latch:
        return self._shared.look_at_domains

    def domains_changed(self) -> None:
        """libvirt told of something: a kick of both lanes where a guest may have restarted."""
        if self._shared.late.begin(trio.current_time()):
            self.look_at_host.kick()
        self.look_at_domains.kick()

    @property
    def busy(self) -> bool:
        """A pass of the host lane is under way."""
        return self._host_lane.busy

    def claim_of(self, name: str) -> str | None:
        """The UUID of the claim a domain of this name has."""
        claims = self._shared.journal.ledger.claims.values()
        return next((claim.uuid for claim in claims if claim.name == name), None)

    async def run_host(self) -> None:
        await self._run(self.look_at_host, self._host_lane, self._claims.fail_all)

    async def run_domains(self) -> None:
        await self._run(self.look_at_domains, self._libvirt_lane, lambda _: None)

    async def _run(
        self, latch: Latch, lane: HostLane | LibvirtLane, failed: Callable[[HostlerError], None]
    ) -> None:
        failures = 0
        while True:
            with trio.move_on_after(lane.look_again_after):
                await latch.wait()
            try:
                async with self.awake.one_pass(waited_for=lane is self._host_lane):
                    with about(pass_=self._host_lane.passes + 1):
                        await lane.one_pass()
                failures = 0
                continue
            except Unreachable as error:
                log.info("%s", error)  # libvirt's source kicks again when it is back
                continue
            except HostlerError as error:
                log.warning("%s", error.sentence)
                failed(error)
            except Exception as error:
                log.exception("a pass failed")
                failed(Internal(f"a pass failed: {error!r}", remedy="the journal has the details"))
            with trio.move_on_after(PAUSES[min(failures, len(PAUSES) - 1)]):
                await self._shared.asked.wait()
            failures += 1
            latch.kick()

    async def what_now(self) -> Plan:
        """The plan a pass would perform at this moment."""
        return (await self._shared.look_and_decide())[1]

    @property
    def settings(self) -> Settings:
        """The policy in force."""
        return self._shared.settings

    async def what_if(self, definition: Definition) -> Plan:
        """The plan if this domain were started."""
        return (await self.imagine(definition))[1]

    async def imagine(self, definition: Definition) -> tuple[Observed, Plan]:
        """What is seen with the claim of a domain that would start now, and the plan of it."""
        observed = await self._shared.look()
        claim = Claim(definition=definition, since=self._shared.next_count())
        claims = {**observed.ledger.claims, definition.uuid: claim}
        ledger = replace(observed.ledger, claims=claims)
        asked = replace(observed, ledger=ledger, imagined=frozenset({definition.uuid}))
        return await self._shared.answer(asked)

    def apply(self, settings: Settings) -> None:
        """Another policy is in force."""
        self._shared.settings = settings
        self._libvirt_lane.try_again()
        self.look_at_host.kick()
        self.look_at_domains.kick()

    async def retry(self, obj: str) -> bool:
        """Trust a degraded object again, or a card that is not the one that was there. False if it is neither."""
        degraded = obj in self._shared.journal.ledger.troubles
        stranger = (
            any(r.object == obj for r in self._shared.plan.refusals) and obj in self._shared.memory.known
        )
        if degraded:
            self._shared.journal.forgive(obj)
        if stranger:
            await self._shared.memory.forget(obj)
        if degraded or stranger:
            self._shared.tell("retry", obj, "is trusted again")
            self.look_at_host.kick()
            self.look_at_domains.kick()
        return degraded or stranger
