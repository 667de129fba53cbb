"""One connection to a bus, from the handshake until it is lost; never again after that.

Rules: the socket is non-blocking and ours, so a message usually leaves in `send` itself, without waking a task. Nobody
waits for ever: calls out have a limit, calls in are bounded by number, what the bus does not take is bounded by size.
Descriptors are never received: the kernel closes what a plain recv() does not take (but see `descriptor`).
"""

from __future__ import annotations

import array
import contextlib
import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import trio

from hostler.errors import TimedOut, Unreachable
from hostlerd.host.bus.codec import Codec, Unreadable
from hostlerd.host.bus.framing import Framer
from hostlerd.host.bus.values import BUS, BUS_PATH, STANDARD_ERROR, CallFailed, Handler, Kind, Message, Reply

log = logging.getLogger(__name__)

SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
LIMIT = 5.0
"""Seconds a call may take where the caller says nothing else; also the handshake."""
TURN = 0.005
"""Seconds of handling messages after which other tasks get their turn: a hook on the socket must not wait."""
MOST_UNSENT = 16 * 1024 * 1024
MOST_HANDLED = 128
MOST_HANDLED_BY_SENDER = 16

_CHUNK = 64 * 1024


class Connection:
    """Calls, signals and answers over one socket. Made by `connect`; `run` must be running for `call` to return."""

    def __init__(
        self, sock: socket.socket, codec: Codec, handler: Handler, heard: Callable[[Message], None]
    ) -> None:
        self._sock = sock
        self._codec = codec
        self._handler = handler
        self._heard = heard
        self._serial = 0
        self._waiting: dict[int, _Waiter] = {}
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._unsent_bytes = 0
        self._unsent_more = trio.Event()
        self._handled: Counter[str] = Counter()
        self._scope = trio.CancelScope()
        self._lost = ""
        self.unique_name = ""

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> str:
        """Serve until the connection is lost; returns why. Handlers that still run then are cancelled."""
        framer = Framer()
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                nursery.start_soon(self._write)
                while not self._lost:
                    data = await self._receive()
                    if data is not None:
                        await self._take(framer, data, nursery)
                nursery.cancel_scope.cancel()
        finally:
            self.end("hostler let go of it")
        return self._lost

    def end(self, why: str) -> None:
        """Let go of the connection; the first reason stays."""
        if self._lost:
            return
        self._lost = why
        for waiter in self._waiting.values():
            waiter.done.set()
        for _, fds in self._unsent:
            _close(fds)
        self._unsent.clear()
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
        self._scope.cancel()

    # -- out ----------------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> int:
        """Send or queue; returns the serial. Raises Unreachable once the connection is lost."""
        if self._lost:
            raise Unreachable(f"the bus is away: {self._lost}")
        self._serial = self._serial % 0xFFFFFFFF + 1
        data = self._codec.encode(replace(message, serial=self._serial))
        serial, fds = self._serial, message.fds
        if not self._unsent:
            sent = self._send_some(data, fds)
            if sent == len(data) or self._lost:
                return serial
            if sent:
                data, fds = data[sent:], ()
        self._unsent.append((data, tuple(os.dup(fd) for fd in fds)))
        self._unsent_bytes += len(data)
        self._unsent_more.set()
        if self._unsent_bytes > MOST_UNSENT:
            self.end("it does not take what it is sent")
        return serial

    async def call(self, message: Message, *, limit: float = LIMIT) -> Message:
        """Send a call and wait for its answer.

        Raises CallFailed (an error answer), TimedOut after `limit` seconds, Unreachable when the connection is lost.
        """
        waiter = _Waiter()
        serial = self.send(message)
        if not self._lost:
            self._waiting[serial] = waiter
            try:
                with trio.move_on_after(limit):
                    await waiter.done.wait()
            finally:
                del self._waiting[serial]
        answer = waiter.answer
        if answer is None:
            if self._lost:
                raise Unreachable(f"the bus went away: {self._lost}")
            raise TimedOut(f"{message.destination} did not answer {message.member} within {limit:g} s")
        if answer.kind is Kind.ERROR:
            told = answer.body[0] if answer.body and isinstance(answer.body[0], str) else ""
            raise CallFailed(answer.error, told)
        return answer

    async def call_bus(self, member: str, signature: str = "", *body: Any) -> tuple[Any, ...]:
        """A method of the bus itself. Raises as `call`."""
        message = Message(
            kind=Kind.CALL,
            destination=BUS,
            path=BUS_PATH,
            interface=BUS,
            member=member,
            signature=signature,
            body=body,
        )
        return (await self.call(message)).body

    def _send_some(self, data: bytes, fds: tuple[int, ...]) -> int:
        """What the kernel takes now; ends the connection on an error."""
        try:
            if fds:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
                return self._sock.sendmsg([data], [rights])
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.end(error.strerror or str(error))
            return 0

    async def _write(self) -> None:
        while True:
            await self._unsent_more.wait()
            while self._unsent:
                with contextlib.suppress(trio.ClosedResourceError):
                    await trio.lowlevel.wait_writable(self._sock)
                if self._lost:
                    return
                data, fds = self._unsent[0]
                sent = self._send_some(data, fds)
                if sent:
                    self._unsent[0] = data[sent:], ()
                    self._unsent_bytes -= sent
                    _close(fds)
                if sent == len(data):
                    self._unsent.popleft()
            self._unsent_more = trio.Event()

    # -- in -----------------------------------------------------------------------------------------------------------

    async def _receive(self) -> bytes | None:
        """Some bytes; None if there were none after all, or on the end of the connection."""
        try:
            await trio.lowlevel.wait_readable(self._sock)
            data = self._sock.recv(_CHUNK)
        except (BlockingIOError, trio.ClosedResourceError):
            return None
        except OSError as error:
            self.end(error.strerror or str(error))
            return None
        if not data:
            self.end("it closed the connection")
            return None
        return data

    async def _take(self, framer: Framer, data: bytes, nursery: trio.Nursery) -> None:
        """Everything in `data`, with others let in every TURN: it may be hundreds of calls of one caller."""
        try:
            pieces = framer.feed(data)
        except ValueError as error:
            self.end(str(error))
            return
        began = trio.current_time()
        for piece in pieces:
            if trio.current_time() - began > TURN:
                await trio.lowlevel.checkpoint()
                began = trio.current_time()
            if self._lost:
                return
            try:
                message = self._codec.decode(piece)
            except Unreadable as error:
                log.info("threw away a D-Bus message that cannot be read: %s", error)
                continue
            if message.kind is Kind.CALL:
                self._handle(message, nursery)
            elif message.kind is Kind.SIGNAL:
                self._heard(message)
            elif (waiter := self._waiting.get(message.reply_to)) is not None:
                # Who answers is the bus' business: it passes on answers that were asked for, and no others.
                waiter.answer = message
                waiter.done.set()

    def _handle(self, call: Message, nursery: trio.Nursery) -> None:
        try:
            result = self._handler(call)
        except CallFailed as failed:
            self._fail(call, failed)
            return
        if isinstance(result, Reply):
            self._answer(call, result)
        elif self._handled[call.sender] < MOST_HANDLED_BY_SENDER and self._handled.total() < MOST_HANDLED:
            self._handled[call.sender] += 1
            nursery.start_soon(self._wait_handled, call, result)
        else:
            _discard(result)
            self._fail(call, CallFailed(STANDARD_ERROR + "LimitsExceeded", "too many calls at once"))

    async def _wait_handled(self, call: Message, result: Awaitable[Reply]) -> None:
        try:
            reply = await result
            try:
                self._answer(call, reply)
            finally:
                _close(reply.fds)
        except CallFailed as failed:
            self._fail(call, failed)
        finally:
            self._handled[call.sender] -= 1
            if not self._handled[call.sender]:
                del self._handled[call.sender]

    def _answer(self, call: Message, reply: Reply) -> None:
        if not call.quiet and not self._lost:
            self.send(
                Message(
                    kind=Kind.RETURN,
                    reply_to=call.serial,
                    destination=call.sender,
                    signature=reply.signature,
                    body=reply.body,
                    fds=reply.fds,
                )
            )

    def _fail(self, call: Message, failed: CallFailed) -> None:
        if not call.quiet and not self._lost:
            self.send(
                Message(
                    kind=Kind.ERROR,
                    reply_to=call.serial,
                    destination=call.sender,
                    error=failed.name,
                    signature="s",
                    body=(failed.message,),
                )
            )


class _Waiter:
    """One call out."""

    __slots__ = ("answer", "done")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.answer: Message | None = None


def _discard(result: Awaitable[Reply]) -> None:
    """A coroutine that will not be run must be told so, or Python warns."""
    close = getattr(result, "close", None)
    if close is not None:
        close()


def _close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)


# -- handshake --------------------------------------------------------------------------------------------------------


def addresses(text: str) -> list[str]:
    """Socket names, abstract ones with a leading NUL, of a D-Bus address list; transports but unix are left out."""
    names: list[str] = []
    for entry in text.split(";"):
        transport, _, options = entry.partition(":")
        pairs: dict[str, str] = {}
        for option in options.split(","):
            key, _, value = option.partition("=")
            pairs[key] = value
        if transport == "unix" and "path" in pairs:
            names.append(unquote(pairs["path"]))
        elif transport == "unix" and "abstract" in pairs:
            names.append("\0" + unquote(pairs["abstract"]))
    return names


async def connect(
    address: str, codec: Codec, handler: Handler, heard: Callable[[Message], None]
) -> Connection:
    """A connection that has shaken hands but not said Hello. Raises Unreachable, also after LIMIT seconds."""
    return Connection(await shaken_hands(address), codec, handler, heard)


async def shaken_hands(address: str) -> socket.socket:
    """The socket of a bus that knows who we are. Raises Unreachable, also after LIMIT seconds."""
    why = f"{address!r} is no address of a UNIX socket"
    for name in addresses(address):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            sock.connect(
                name
            )  # on a UNIX socket this is at once: done, refused, or EAGAIN (its backlog is full)
            with trio.fail_after(LIMIT):
                await _shake_hands(sock)
        except (OSError, trio.TooSlowError) as error:
            sock.close()
            why = f"{name}: {getattr(error, 'strerror', None) or 'no answer to the handshake'}"
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise Unreachable(f"there is no D-Bus system bus: {why}")


async def _shake_hands(sock: socket.socket) -> None:
    """The authentication protocol of the specification, as the user we are. Raises OSError.

    Descriptors are negotiated so that one can be sent (a pidfd, to polkit).
    """
    user = str(os.geteuid()).encode().hex()
    sock.send(b"\0AUTH EXTERNAL " + user.encode() + b"\r\n")
    if not (await _read_line(sock)).startswith(b"OK "):
        raise ConnectionRefusedError(0, "it does not know this user")
    sock.send(b"NEGOTIATE_UNIX_FD\r\n")
    if not (await _read_line(sock)).startswith(b"AGREE_UNIX_FD"):
        raise ConnectionRefusedError(0, "it passes no file descriptors")
    sock.send(b"BEGIN\r\n")


async def _read_line(sock: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        await trio.lowlevel.wait_readable(sock)
        try:
            data = sock.recv(4096)
        except BlockingIOError:
            continue
        if not data or len(line) > 4096:
            raise ConnectionRefusedError(0, "it ended the handshake")
        line += data
    return line
