"""Options, wiring and the one task tree. Nothing else wires.

Start order: the socket is served and READY=1 sent before libvirt is opened, because domains that start at boot run
their
hooks before libvirtd accepts a client. Sources subscribe before anything is enumerated.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from hostler.errors import BadInput, HostlerError, exit_status
from hostlerd import log as logs
from hostlerd.act.journal import Journal
from hostlerd.act.recover import recover
from hostlerd.api import Json
from hostlerd.api import socket as socket_face
from hostlerd.api.events import Events
from hostlerd.api.service import HostlerService
from hostlerd.decide.rule import RULE_FILE
from hostlerd.machine import Machine, open_machine
from hostlerd.observe.domain_xml import parse_domain
from hostlerd.observe.everything import Everything
from hostlerd.options import Options, parse
from hostlerd.policy import Policy
from hostlerd.reconcile import Reconciler
from hostlerd.sources import pressure as pressure_source
from hostlerd.sources import sleep as sleep_source

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    logs.set_up(verbose=options.verbose)
    try:
        trio.run(run, options, strict_exception_groups=True)
    except HostlerError as error:
        print(f"hostlerd: {error.sentence}", file=sys.stderr)
        return exit_status(error)
    return 0


def lock(options: Options) -> int:
    """One daemon a runtime directory. Raises BadInput; the lock goes with the process."""
    try:
        os.makedirs(options.runtime, mode=0o755, exist_ok=True)
        handle = os.open(os.path.join(options.runtime, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BadInput(f"another hostlerd uses {options.runtime}", remedy="stop it first") from error
    except OSError as error:
        raise BadInput(
            f"{options.runtime} cannot be used: {error.strerror}", remedy="run as root, or give --runtime DIR"
        ) from error
    return handle


async def run(options: Options) -> None:
    handle = lock(options)
    try:
        async with open_machine(options) as machine:
            await serve(options, machine)
    finally:
        os.close(handle)


async def serve(options: Options, machine: Machine) -> None:
    """The task tree; returns when asked to stop, leaving the host as it is."""
    host, events = machine.host, Events()
    journal = Journal(options.journal, machine.boot, parse_domain)
    await recover(host, journal)
    policy = Policy(host, journal, options)

    async def reload() -> bool:
        return await policy.reload(reconciler)

    async def simulate(action: str, params: Mapping[str, Any]) -> Json:
        assert machine.simulate is not None  # noqa: S101 - handed to the service only where it is there
        return await machine.simulate(action, params)

    service = HostlerService(
        host=host,
        authorize=machine.authorize,
        events=events,
        reload=reload,
        simulate=simulate if machine.simulate else None,
    )
    reconciler = Reconciler(
        host=host,
        journal=journal,
        settings=await policy.start(),
        observe=Everything(host, RULE_FILE),
        tell=events.tell,
        publish=service.publish,
    )
    service.reconciler = reconciler
    async with trio.open_nursery() as tasks:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            for source in machine.device_sources:
                await tasks.start(source, reconciler.look_at_host.kick)
            await tasks.start(sleep_source.run, host.sleep, reconciler.awake)
            await tasks.start(pressure_source.run, host.pressure, reconciler.lending)
            tasks.start_soon(reconciler.run_host)
            tasks.start_soon(reconciler.run_domains)
            tasks.start_soon(reconciler.run_returns)
            tasks.start_soon(reconciler.run_programs)
            tasks.start_soon(reconciler.run_guest_memory)
            listeners = socket_face.listeners(options.socket)
            await tasks.start(socket_face.serve, service, listeners)
            for face in machine.faces:
                tasks.start_soon(face, service)
            reconciler.look_at_host.kick()
            machine.notify.ready()
            tasks.start_soon(machine.notify.run_watchdog)
            for source in machine.domain_sources:
                tasks.start_soon(source, reconciler.domains_changed)
            log.info("hostlerd is up, socket %s", options.socket)
            async for number in signals:
                if number != signal.SIGHUP:
                    break
                await reread(policy, reconciler, machine)
        machine.notify.stopping()
        tasks.cancel_scope.cancel()
    journal.close()


async def reread(policy: Policy, reconciler: Reconciler, machine: Machine) -> None:
    """SIGHUP: nobody to answer, so what is wrong goes to the log and the running policy stays in force."""
    machine.notify.reloading()
    try:
        changed = await policy.reload(reconciler)
        log.info("the policy was read again%s", "" if changed else ", nothing changed")
    except HostlerError as error:
        log.error("the policy stays as it was: %s", error.sentence)
    machine.notify.ready()
