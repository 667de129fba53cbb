"""One call whose answer is a file descriptor, over a connection of its own.

Rules: the daemon's connection never takes descriptors, since everybody may send us some. Here a connection lives for
one call of ours, and what came with anything but its answer is closed: with more than one, nothing is taken. The
descriptor outlives the connection (logind's locks are FIFOs, org.freedesktop.login1(5)).
"""

from __future__ import annotations

import array
import os
import socket
from dataclasses import replace

import trio

from hostler.errors import TimedOut, Unreachable
from hostlerd.host.bus.codec import Codec, Unreadable
from hostlerd.host.bus.connection import LIMIT, shaken_hands
from hostlerd.host.bus.framing import Framer
from hostlerd.host.bus.values import BUS, BUS_PATH, STANDARD_ERROR, CallFailed, Kind, Message

_HELLO, _CALL = 1, 2
_CHUNK, _MOST = 64 * 1024, 16


async def call_for_descriptor(address: str, codec: Codec, call: Message, *, limit: float = LIMIT) -> int:
    """The descriptor, which is the caller's to close. Raises CallFailed, TimedOut and Unreachable as Bus.call."""
    hello = Message(
        kind=Kind.CALL, serial=_HELLO, destination=BUS, path=BUS_PATH, interface=BUS, member="Hello"
    )
    call = replace(call, serial=_CALL)
    received: list[int] = []
    taken = -1
    try:
        with trio.fail_after(limit):
            sock = await shaken_hands(address)
            with sock:
                sock.send(codec.encode(hello) + codec.encode(call))  # a fresh socket takes as much at once
                answer = await _answer(sock, codec, received)
        if answer.kind is Kind.ERROR:
            told = answer.body[0] if answer.body and isinstance(answer.body[0], str) else ""
            raise CallFailed(answer.error, told)
        if len(received) != 1 or answer.signature != "h":
            raise CallFailed(
                STANDARD_ERROR + "InconsistentMessage", f"{call.member} gave {len(received)} descriptors"
            )
        taken = received.pop()
    except trio.TooSlowError:
        raise TimedOut(f"{call.destination} did not answer {call.member} within {limit:g} s") from None
    except OSError as error:
        raise Unreachable(f"the bus went away: {error.strerror or error}") from error
    finally:
        for fd in received:
            os.close(fd)
    return taken


async def _answer(sock: socket.socket, codec: Codec, received: list[int]) -> Message:
    """Everything up to the answer of our call. What came along is added to `received`. Raises OSError."""
    framer = Framer()
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            data, ancillary, _, _ = sock.recvmsg(
                _CHUNK, socket.CMSG_SPACE(_MOST * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            continue
        for level, kind, raw in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array("i")
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
                received += fds
        if not data:
            raise ConnectionResetError(0, "it closed the connection")
        try:
            messages = [codec.decode(piece) for piece in framer.feed(data)]
        except (Unreadable, ValueError) as error:
            raise ConnectionResetError(0, str(error)) from error
        for message in messages:
            if message.kind in (Kind.RETURN, Kind.ERROR) and message.reply_to == _CALL:
                return message
