"""One connection, whose other end is a bare socket: queues, descriptors, turns, noise."""

import array
import contextlib
import functools
import os
import socket
import time
from typing import Any

import pytest
import trio

from hostler.errors import Unreachable
from hostlerd.host.bus import CallFailed, Codec, Kind, Message, Reply
from hostlerd.host.bus import connection as connection_module
from hostlerd.host.bus.connection import addresses

SOON = 10.0
NULL = functools.partial(open, "/dev/null", "rb")


def echo(call: Message) -> Reply:
    if call.member != "Echo":
        raise CallFailed("org.example.Error.No", f"no {call.member}")
    return Reply(call.signature, call.body)


async def test_a_descriptor_is_sent(codec: Codec) -> None:
    """The other end is a bare socket pair: our connections do not take descriptors."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        connection = connection_module.Connection(ours, codec, echo, lambda _: None)
        with NULL() as file:
            call = Message(
                kind=Kind.CALL, path="/", member="M", signature="h", body=(0,), fds=(file.fileno(),)
            )
            connection.send(call)
            data, ancillary, _, _ = theirs.recvmsg(4096, socket.CMSG_SPACE(16))
            assert codec.decode(data).body == (0,)
            received = array.array("i", ancillary[0][2])
            assert os.fstat(received[0]).st_rdev == os.fstat(file.fileno()).st_rdev
            os.close(received[0])
        connection.end("test over")


async def test_what_the_bus_does_not_take_is_queued_in_order_and_bounded(codec: Codec) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = connection_module.Connection(ours, codec, echo, lambda _: None)
    serials: list[int] = []
    with theirs, NULL() as file:
        before = len(os.listdir("/proc/self/fd"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            for number in range(300):
                fds = (file.fileno(),) if number % 50 == 49 else ()
                body = ("x" * 10_000, *((0,) if fds else ()))
                signature = "sh" if fds else "s"
                connection.send(
                    Message(kind=Kind.CALL, path="/", member="M", signature=signature, body=body, fds=fds)
                )
            assert connection._unsent
            framer = connection_module.Framer()
            while len(serials) < 300:
                await trio.lowlevel.wait_readable(theirs)
                serials += [codec.decode(piece).serial for piece in framer.feed(theirs.recv(100_000))]
            assert serials == list(range(1, 301))
            assert connection._unsent_bytes == 0
            assert len(os.listdir("/proc/self/fd")) == before
            big = Message(kind=Kind.CALL, path="/", member="M", signature="s", body=("x" * 1_000_000,))
            while not connection._lost:
                connection.send(big)
            with pytest.raises(Unreachable, match="does not take what it is sent"):
                connection.send(big)


async def test_others_get_their_turn_in_a_flood(codec: Codec) -> None:
    turns: list[int] = []
    handled: list[str] = []

    def slow(call: Message) -> Reply:
        time.sleep(connection_module.TURN)  # what a large answer costs
        handled.append(call.member)
        return Reply()

    async def other() -> None:
        while True:
            turns.append(len(handled))
            await trio.lowlevel.checkpoint()

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = connection_module.Connection(ours, codec, slow, lambda _: None)
    call = codec.encode(Message(kind=Kind.CALL, serial=1, sender=":1.1", path="/", member="M", quiet=True))
    theirs.sendall(call * 20)
    theirs.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await connection.run()
        nursery.cancel_scope.cancel()
    assert len(handled) == 20
    assert len(set(turns)) > 10


async def test_a_stream_of_noise_ends_the_connection(codec: Codec) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = connection_module.Connection(ours, codec, echo, lambda _: None)
    with theirs:
        theirs.send(b"this is no message of anybody")
        assert await connection.run() == "the bus sent something that is no D-Bus message"
    with pytest.raises(Unreachable):
        connection.send(Message(kind=Kind.CALL, path="/", member="M"))


def test_address_lists() -> None:
    assert addresses("unix:path=/run/a%20b,guid=1;tcp:host=x;unix:abstract=/tmp/y;unix:runtime=yes") == [
        "/run/a b",
        "\0/tmp/y",
    ]


def test_a_flood_of_garbage_from_a_client_is_the_buses_to_stop(private_bus: Any) -> None:
    """What decoding relies on: the bus hangs up on a client that sends what is no message."""
    path = addresses(private_bus.address)[0]
    with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        sock.connect(path)
        sock.settimeout(SOON)
        sock.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
        assert sock.recv(100).startswith(b"OK ")
        sock.sendall(b"BEGIN\r\n" + b"l\1\0\1" + b"\xff" * 100)
        assert sock.recv(100) == b""
