"""Two faces, D-Bus and the socket, of one transport-free service with one default-deny authorization table.

Rules: a face parses and formats, nothing else; the service knows no transport; whoever calls is a `Peer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who calls. On the socket: credentials of the connection (`pidfd` where the kernel has SO_PEERPIDFD, owned by the
    connection) and the process' start time; on the bus: the unique name.
    """

    uid: int | None = None
    pid: int | None = None
    start_time: int | None = None
    pidfd: int | None = None
    bus_name: str | None = None
    interactive: bool = False
    """The caller may be asked for a password (a flag of the D-Bus message)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the last pass left for readers; the shapes are those of the command line's JSON. Replaced as a whole."""

    status: Json = field(default_factory=dict)
    devices: tuple[Json, ...] = ()
    domains: tuple[Json, ...] = ()
    cpus: Json = field(default_factory=dict)
    plan: Json = field(default_factory=dict)


class Handed(Json):
    """A result that a descriptor goes along with. Whoever gets it hands that on, if it can, and closes it."""

    def __init__(self, result: Json, descriptor: int) -> None:
        super().__init__(result)
        self.descriptor = descriptor


class Service(Protocol):
    """What a face calls."""

    @property
    def published(self) -> Published: ...

    async def call(self, peer: Peer, method: str, params: Mapping[str, Any]) -> Json:
        """Authorise and perform one request. Raises hostler.errors.HostlerError only; cancelling it rolls back."""
        ...

    def subscribe(self) -> trio.MemoryReceiveChannel[Json]:
        """Events as `hostler watch` shows them: {"time", "kind", "object", "text"}; a slow reader loses the oldest."""
        ...

    async def wait_published(self, previous: Published) -> Published:
        """The next state that is not `previous`."""
        ...
