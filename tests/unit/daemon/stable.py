"""A whole daemon without its faces, on the simulated host: what the tests of the loop drive.

A `Stable` can be killed and opened again on the same host and journal, as after kill -9.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.testing

from hostler.errors import HostlerError
from hostlerd.act.journal import Journal
from hostlerd.act.recover import recover
from hostlerd.decide.rule import RULE_FILE
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Plan
from hostlerd.model.settings import Settings
from hostlerd.observe.domain_xml import parse_domain
from hostlerd.observe.everything import Everything
from hostlerd.reconcile import Reconciler
from hostlerd.sources import pressure, sleep

GPU = "0000:01:00.0"
CARD = (GPU, "0000:01:00.1", "0000:01:00.2", "0000:01:00.3")
NIC, SATA = "0000:05:00.0", "0000:06:00.0"


def simulated(name: str = "desktop") -> SimulatedHost:
    return SimulatedHost(name, parse=parse_domain, limit=60.0)


class Killed(BaseException):
    """kill -9."""


class Stable:
    def __init__(self, host: SimulatedHost, path: Path, settings: Settings) -> None:
        self.host = host
        self.journal = Journal(str(path), "boot", parse_domain)
        self.told: list[tuple[str, str, str]] = []
        self.passes: list[tuple[Observed, Plan]] = []
        self.reconciler = Reconciler(
            host=host,
            journal=self.journal,
            settings=settings,
            observe=Everything(host, RULE_FILE),
            tell=lambda kind, obj, text: self.told.append((kind, obj, text)),
            publish=lambda observed, plan, _: self.passes.append((observed, plan)),
        )
        self._hooks: set[trio.CancelScope] = set()
        self._dead = trio.Event()

    @property
    def plan(self) -> Plan:
        return self.passes[-1][1]

    async def hook(self, name: str, operation: str, sub_operation: str, xml: str) -> tuple[int, str]:
        """What `hostler hook` does, without the socket; a daemon that dies meanwhile is a broken connection."""
        scope = trio.CancelScope()
        self._hooks.add(scope)
        try:
            with scope:
                if (operation, sub_operation) == ("prepare", "begin"):
                    await self.reconciler.prepare(parse_domain(xml), xml)
                elif (operation, sub_operation) == ("release", "end"):
                    definition = parse_domain(xml)
                    await self.reconciler.release(definition.uuid, name)
                return 0, ""
        except HostlerError as error:
            return 1, error.sentence
        except Killed:
            self._dead.set()
        return (1, "the daemon went away") if operation == "prepare" else (0, "")

    async def wait_killed(self) -> None:
        """For a death inside a request."""
        await self._dead.wait()
        raise Killed

    def hang_up(self) -> None:
        """The connections of a daemon that died."""
        for scope in self._hooks:
            scope.cancel()

    async def settle(self) -> None:
        """Until nothing happens any more."""
        await trio.testing.wait_all_tasks_blocked(0.005)


@asynccontextmanager
async def stable(host: SimulatedHost, path: Path, settings: Settings | None = None) -> AsyncIterator[Stable]:
    one = Stable(host, path, settings or Settings())
    await recover(host, one.journal)
    host.hypervisor.hook = one.hook
    host.subscribe_devices(one.reconciler.look_at_host.kick)
    host.subscribe_usb(one.reconciler.look_at_host.kick)
    host.subscribe_domains(one.reconciler.look_at_domains.kick)
    host.subscribe_threads(one.reconciler.look_at_domains.kick)
    host.subscribe_programs(one.reconciler.look_at_host.kick)
    async with trio.open_nursery() as nursery:
        await nursery.start(sleep.run, host.sleep, one.reconciler.awake)
        await nursery.start(pressure.run, host.pressure, one.reconciler.lending)
        nursery.start_soon(one.reconciler.run_host)
        nursery.start_soon(one.reconciler.run_domains)
        nursery.start_soon(one.reconciler.run_returns)
        nursery.start_soon(one.reconciler.run_programs)
        nursery.start_soon(one.reconciler.run_guest_memory)
        nursery.start_soon(one.wait_killed)
        one.reconciler.look_at_host.kick()
        one.reconciler.look_at_domains.kick()
        await one.settle()
        try:
            yield one
        finally:
            one.hang_up()
            nursery.cancel_scope.cancel()
    one.journal.close()
