"""A simulated host as the daemon's machine: no root, no libvirt, no udev, and no bus unless one is named.

The host is kept in a file beside the journal, as a real one outlives its daemon. libvirt's hook is the real one: the
client's `hostler hook`, in a process of its own, over the real socket.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from hostler.wire import SOCKET_VARIABLE
from hostlerd.api import bus as bus_face
from hostlerd.api.authorize import Authorizer
from hostlerd.host import Kick
from hostlerd.host.bus import Bus
from hostlerd.host.notify import Notify
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.libvirt import Hook
from hostlerd.machine import Machine
from hostlerd.observe.domain_xml import parse_domain
from hostlerd.options import Options
from hostlerd.reconcile import Latch
from hostlerd.sources.quiet import kick_when_quiet

LIBVIRT_LIMIT = 60.0
"""Seconds of a simulated libvirt call; like the real one's, longer than a hook may take."""


def hook_of(socket: str) -> Hook:
    """libvirt's hook script: `hostler hook`, told where this daemon listens."""

    async def hook(name: str, operation: str, sub_operation: str, xml: str) -> tuple[int, str]:
        done = await trio.run_process(
            [sys.executable, "-m", "hostler", "hook", name, operation, sub_operation, "-"],
            stdin=xml.encode(),
            capture_stderr=True,
            check=False,
            env={**os.environ, SOCKET_VARIABLE: socket},
            stdout=subprocess.DEVNULL,
        )
        return done.returncode, done.stderr.decode(errors="replace").strip()

    return hook


@asynccontextmanager
async def open_simulated(options: Options) -> AsyncIterator[Machine]:
    host = SimulatedHost(
        options.sim or "desktop",
        hook=hook_of(options.socket),
        parse=parse_domain,
        limit=LIBVIRT_LIMIT,
        state_file=os.path.join(options.runtime, "host.json"),
    )

    async def devices(kick: Kick, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        host.subscribe_devices(kick)
        task_status.started()

    async def usb(kick: Kick, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        heard = Latch()
        host.subscribe_usb(heard.kick)
        task_status.started()
        await kick_when_quiet(heard.wait, kick)

    async def domains(kick: Kick, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        host.subscribe_domains(kick)
        task_status.started()
        kick()

    async def threads(kick: Kick, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        host.subscribe_threads(kick)
        task_status.started()

    async def programs(kick: Kick, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        host.subscribe_programs(kick)
        task_status.started()

    async with trio.open_nursery() as nursery:
        bus = None
        if options.bus is not None:
            bus = Bus(options.bus)
            await nursery.start(bus.run)
        yield Machine(
            host=host,
            boot="simulated",
            authorize=Authorizer(bus, simulated=True),
            notify=Notify(),
            device_sources=(devices, usb, programs),
            domain_sources=(domains, threads),
            faces=(partial(bus_face.serve, bus),) if bus is not None else (),
            simulate=host.simulate,
        )
        nursery.cancel_scope.cancel()
