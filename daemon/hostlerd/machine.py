"""The machine the daemon runs on: the live one, or a simulated one. The only place that knows both.

Imports of the live side are late, so that a simulated host needs neither libvirt nor udev.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from hostlerd.api import Json, Service
from hostlerd.api.service import Authorize
from hostlerd.host import Host
from hostlerd.host.notify import Notify
from hostlerd.options import Options

Source = Callable[..., Awaitable[None]]
"""`async def source(kick, *, task_status)`: kicks when something changed; started() when it listens."""
Face = Callable[[Service], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    host: Host
    boot: str
    authorize: Authorize
    notify: Notify
    device_sources: tuple[Source, ...]
    domain_sources: tuple[Source, ...]
    faces: tuple[Face, ...] = ()
    simulate: Callable[[str, Mapping[str, Any]], Awaitable[Json]] | None = None


@asynccontextmanager
async def open_machine(options: Options) -> AsyncIterator[Machine]:
    if options.sim is not None:
        from hostlerd.simulated_machine import open_simulated  # noqa: PLC0415

        async with open_simulated(options) as machine:
            yield machine
    else:
        from hostlerd.live_machine import open_live  # noqa: PLC0415

        async with open_live(options) as machine:
            yield machine
