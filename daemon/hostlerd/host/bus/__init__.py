"""The D-Bus system bus, on trio: calls out, calls in, signals out, and being told that something happened.

Rules: this package is the only place that knows dbus-next and dbus-fast, and asyncio takes no part. The bus is a
comfort, not a condition: while it is away `call` raises Unreachable at once, `emit` says nothing, everything else goes
on, and `run` comes back to it. A signal is heard as "look again", never read: anybody may send us one.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from hostler.errors import TimedOut, Unreachable
from hostlerd.host.bus.codec import Codec
from hostlerd.host.bus.connection import LIMIT, SYSTEM_BUS, Connection, connect
from hostlerd.host.bus.descriptor import call_for_descriptor
from hostlerd.host.bus.values import (
    BUS,
    BUS_PATH,
    PROPERTIES,
    STANDARD_ERROR,
    CallFailed,
    Handler,
    Kind,
    Message,
    Reply,
    Variant,
)

__all__ = [
    "BUS",
    "BUS_PATH",
    "LIMIT",
    "PROPERTIES",
    "STANDARD_ERROR",
    "Bus",
    "CallFailed",
    "Codec",
    "Handler",
    "Kind",
    "Message",
    "Reply",
    "Variant",
]

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 60.0
"""Seconds between attempts to come back: doubled from the first to the longest."""
_IN_QUEUE = 2
"""RequestName's answer when somebody else has the name; ours as soon as they leave."""


class Bus:
    """The bus, whether it is there or not. One task runs `run`; everything else may be called before and after."""

    def __init__(self, address: str | None = None, *, codec: Codec | None = None) -> None:
        """`address`: where the bus is; the system bus if None. Raises ImportError when neither library is there."""
        self._address = address or os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or SYSTEM_BUS
        self._codec = codec or Codec()
        self._connection: Connection | None = None
        self._nursery: trio.Nursery | None = None
        self._name = ""
        self._handler: Handler = _nobody
        self._kicks: list[_Kick] = []

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def unique_name(self) -> str:
        """Our name on this connection, such as ``:1.42``; empty while the bus is away."""
        return self._connection.unique_name if self._connection else ""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a connection until cancelled. Started once the first attempt went well or failed."""
        pause, said = FIRST_PAUSE, ""
        tried = _Once(task_status.started)
        while True:
            began = trio.current_time()
            why = await self._run_once(tried)
            tried()
            if trio.current_time() - began > LONGEST_PAUSE:
                pause, said = FIRST_PAUSE, ""
            if why != said:
                log.warning("%s; going on without it, and looking for it", why)
                said = why
            await trio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _run_once(self, tried: Callable[[], None]) -> str:
        """One connection from beginning to end; returns what ended it."""
        try:
            connection = await connect(self._address, self._codec, self._handle, self._hear)
        except Unreachable as error:
            return error.message
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._greet, connection, tried)
                why = await connection.run()
                nursery.cancel_scope.cancel()
        finally:
            self._connection = self._nursery = None
        return f"lost the D-Bus system bus: {why}"

    async def _greet(self, connection: Connection, tried: Callable[[], None]) -> None:
        """Hello, what we want to hear of, and our name. What was missed while away counts as heard."""
        try:
            (connection.unique_name,) = await connection.call_bus("Hello")
            self._connection = connection
            for kick in self._kicks:
                await self._match(connection, kick)
            if self._name:
                await self._request(connection, self._name)
        except (CallFailed, TimedOut, Unreachable) as error:
            connection.end(str(error))
            return
        tried()
        for kick in self._kicks:
            kick.kick()

    # -- out ----------------------------------------------------------------------------------------------------------

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *body: Any,
        limit: float = LIMIT,
        fds: tuple[int, ...] = (),
    ) -> tuple[Any, ...]:
        """Call a method and return what it returned.

        Raises CallFailed (an error answer), TimedOut after `limit` seconds, Unreachable while the bus is away.
        """
        connection = self._connection
        if connection is None:
            raise Unreachable("the D-Bus system bus is away")
        message = Message(
            kind=Kind.CALL,
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=body,
            fds=fds,
        )
        return (await connection.call(message, limit=limit)).body

    async def call_for_descriptor(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> int:
        """Call a method that returns a descriptor, which is the caller's to close. Raises as `call`."""
        if self._connection is None:
            raise Unreachable("the D-Bus system bus is away")
        call = Message(
            kind=Kind.CALL,
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=body,
        )
        return await call_for_descriptor(self._address, self._codec, call)

    def tell(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> None:
        """Call a method whose answer nobody waits for; nothing while the bus is away."""
        self._send(
            Message(
                kind=Kind.CALL,
                destination=destination,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=body,
                quiet=True,
            )
        )

    def emit(self, path: str, interface: str, member: str, signature: str = "", *body: Any) -> None:
        """Send a signal to whoever listens; nothing while the bus is away."""
        self._send(
            Message(
                kind=Kind.SIGNAL,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=body,
            )
        )

    def _send(self, message: Message) -> None:
        if self._connection is not None:
            with contextlib.suppress(Unreachable):
                self._connection.send(message)

    # -- in -----------------------------------------------------------------------------------------------------------

    def serve(self, name: str, handler: Handler) -> None:
        """Own `name` on every connection from now on and answer calls with `handler`. Once only."""
        self._name, self._handler = name, handler
        if self._connection is not None and self._nursery is not None:
            self._nursery.start_soon(self._request, self._connection, name)

    def listen(
        self, kick: Callable[[], None], *, sender: str, interface: str, member: str, path: str = ""
    ) -> None:
        """Call `kick` when the bus passes on such a signal, and after every reconnect.

        Whoever sends us a signal of this name directly kicks too: look again, and believe nothing.
        """
        entry = _Kick(kick=kick, sender=sender, interface=interface, member=member, path=path)
        self._kicks.append(entry)
        if self._connection is not None and self._nursery is not None:
            self._nursery.start_soon(self._match, self._connection, entry)

    def _handle(self, call: Message) -> Reply | Awaitable[Reply]:
        return self._handler(call)

    def _hear(self, signal: Message) -> None:
        for kick in self._kicks:
            if (signal.interface, signal.member) == (kick.interface, kick.member) and (
                not kick.path or kick.path == signal.path
            ):
                kick.kick()

    async def _match(self, connection: Connection, kick: _Kick) -> None:
        rule = f"type='signal',sender='{kick.sender}',interface='{kick.interface}',member='{kick.member}'"
        if kick.path:
            rule += f",path='{kick.path}'"
        await _try(connection, "AddMatch", "s", rule)

    async def _request(self, connection: Connection, name: str) -> None:
        answer = await _try(connection, "RequestName", "su", name, 0)
        if answer == (_IN_QUEUE,):
            log.warning("another process has the bus name %s; it is ours when that process ends", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kick:
    kick: Callable[[], None]
    sender: str
    interface: str
    member: str
    path: str


class _Once:
    """Calls its function the first time it is called."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            function()


async def _try(connection: Connection, member: str, signature: str, *body: Any) -> tuple[Any, ...]:
    """Ask the bus; a refusal (no bus policy installed) is told to the log, and the rest goes on."""
    try:
        return await connection.call_bus(member, signature, *body)
    except (CallFailed, TimedOut) as error:
        log.error("the bus refuses %s%r: %s", member, body, error)
    except Unreachable:
        pass  # told where the connection ends
    return ()


def _nobody(call: Message) -> Reply:
    raise CallFailed(STANDARD_ERROR + "UnknownObject", f"there is no object {call.path}")
