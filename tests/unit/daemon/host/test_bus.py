"""The bus on a D-Bus daemon of the test's own, with both libraries: calls, limits, floods, and the bus going away."""

import functools
import logging
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from hostler.errors import TimedOut, Unreachable
from hostlerd.host.bus import Bus, CallFailed, Codec, Message, Reply, Variant
from hostlerd.host.bus.connection import MOST_HANDLED_BY_SENDER
from hostlerd.host.bus.framing import MOST_ASKED

NAME = "org.example.Server"
ME = (NAME, "/o", "org.example.I")
SOON = 10.0
NULL = functools.partial(open, "/dev/null", "rb")


@asynccontextmanager
async def running(address: str, codec: Codec) -> AsyncIterator[Bus]:
    async with trio.open_nursery() as nursery:
        bus = Bus(address, codec=codec)
        await nursery.start(bus.run)
        yield bus
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], Any]) -> None:
    """The other side is a process of its own: there is no event to wait for."""
    with trio.fail_after(SOON):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


def echo(call: Message) -> Reply:
    if call.member != "Echo":
        raise CallFailed("org.example.Error.No", f"no {call.member}")
    return Reply(call.signature, call.body)


async def test_a_call_is_answered(private_bus: Any, codec: Codec) -> None:
    async with running(private_bus.address, codec) as server, running(private_bus.address, codec) as client:
        server.serve(NAME, echo)
        await until_owned(client)
        value = {"k": Variant("as", ["x", "y"])}
        assert await client.call(*ME, "Echo", "a{sv}u", {}, 5) == ({}, 5)
        assert await client.call(*ME, "Echo") == ()
        with pytest.raises(CallFailed) as failed:
            await client.call(*ME, "Other", "a{sv}", value)
        assert (failed.value.name, failed.value.message) == ("org.example.Error.No", "no Other")


async def ask_bus(client: Bus, member: str, name: str = NAME) -> Any:
    bus = "org.freedesktop.DBus"
    (answer,) = await client.call(bus, "/org/freedesktop/DBus", bus, member, "s", name)
    return answer


async def until_owned(client: Bus, name: str = NAME) -> None:
    with trio.fail_after(SOON):
        while not await ask_bus(client, "NameHasOwner", name):  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_busctl_is_answered(private_bus: Any, codec: Codec) -> None:
    async with running(private_bus.address, codec) as server:
        server.serve(NAME, echo)
        await until_owned(server)
        out = await trio.to_thread.run_sync(private_bus.busctl, "call", *ME, "Echo", "sas", "ä€", "1", "y")
    assert out == 'sas "\\303\\244\\342\\202\\254" 1 "y"\n' or out == 'sas "ä€" 1 "y"\n'


async def test_a_caller_that_wants_no_answer_gets_none(private_bus: Any, codec: Codec) -> None:
    heard: list[str] = []

    def handler(call: Message) -> Reply:
        heard.append(call.member)
        return Reply()

    async with running(private_bus.address, codec) as server, running(private_bus.address, codec) as client:
        server.serve(NAME, handler)
        await until_owned(client)
        sent: list[Message] = []
        connection = server._connection
        assert connection is not None
        send = connection.send
        connection.send = lambda message: sent.append(message) or send(message)  # type: ignore[func-returns-value,method-assign]
        client.tell(*ME, "Echo")
        await until(lambda: heard)
        assert sent == []
        await client.call(*ME, "Echo")
        assert len(sent) == 1


async def test_every_call_has_a_limit(private_bus: Any, codec: Codec) -> None:
    async def never() -> Reply:
        await trio.sleep_forever()
        raise AssertionError

    async with running(private_bus.address, codec) as server, running(private_bus.address, codec) as client:
        server.serve(NAME, lambda _: never())
        await until_owned(client)
        with pytest.raises(TimedOut) as error:
            await client.call(*ME, "Echo", limit=0.05)
        assert error.value.message == "org.example.Server did not answer Echo within 0.05 s"
        with trio.move_on_after(0.05):
            await client.call(*ME, "Echo")
        assert client._connection is not None
        assert client._connection._waiting == {}


async def test_a_caller_has_a_bounded_number_of_calls_and_others_are_served(
    private_bus: Any, codec: Codec
) -> None:
    gate = trio.Event()
    outcomes: list[str] = []

    async def wait() -> Reply:
        await gate.wait()
        return Reply()

    async def ask(client: Bus) -> None:
        try:
            await client.call(*ME, "Wait")
            outcomes.append("served")
        except CallFailed as failed:
            outcomes.append(failed.name.rpartition(".")[2])

    async with running(private_bus.address, codec) as server, running(private_bus.address, codec) as client:
        server.serve(NAME, lambda _: wait())
        await until_owned(client)
        async with running(private_bus.address, codec) as other, trio.open_nursery() as nursery:
            for _ in range(MOST_HANDLED_BY_SENDER + 24):
                nursery.start_soon(ask, client)
            await until(lambda: len(outcomes) == 24)
            nursery.start_soon(ask, other)
            connection = server._connection
            assert connection is not None
            await until(lambda: len(connection._handled) == 2)
            gate.set()
        assert sorted(set(outcomes)) == ["LimitsExceeded", "served"]
        assert outcomes.count("LimitsExceeded") == 24
        assert not connection._handled


async def test_no_file_descriptor_of_a_caller_stays_open(private_bus: Any, codec: Codec) -> None:
    async with running(private_bus.address, codec) as server, running(private_bus.address, codec) as client:
        server.serve(NAME, echo)
        await until_owned(client)
        with NULL() as file:
            await client.call(*ME, "Echo")
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(50):
                with pytest.raises(CallFailed):
                    await client.call(*ME, "Other", "hh", 0, 1, fds=(file.fileno(), file.fileno()))
            assert len(os.listdir("/proc/self/fd")) == before


async def test_a_message_too_large_does_no_harm(private_bus: Any, codec: Codec) -> None:
    async with running(private_bus.address, codec) as server, running(private_bus.address, codec) as client:
        server.serve(NAME, echo)
        await until_owned(client)
        with pytest.raises(TimedOut):
            await client.call(*ME, "Echo", "s", "x" * MOST_ASKED, limit=0.2)
        assert await client.call(*ME, "Echo", "s", "x") == ("x",)


async def test_without_a_bus_calls_fail_at_once(stopped_bus: Any, codec: Codec, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        async with running(stopped_bus.address, codec) as bus:
            with pytest.raises(Unreachable):
                await bus.call(*ME, "Echo")
            bus.emit("/o", "org.example.I", "S")
            bus.tell(*ME, "Echo")
            assert not bus.connected
            await trio.sleep(0.35)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"there is no D-Bus system bus: {stopped_bus.folder}/bus: No such file or directory; "
        "going on without it, and looking for it"
    )


async def test_the_bus_goes_away_and_comes_back(private_bus: Any, codec: Codec, caplog: Any) -> None:
    cancelled: list[bool] = []
    kicks: list[None] = []

    async def wait() -> Reply:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(True)
        raise AssertionError

    def handler(call: Message) -> Reply | Any:
        return wait() if call.member == "Wait" else echo(call)

    async with running(private_bus.address, codec) as server, running(private_bus.address, codec) as client:
        server.serve(NAME, handler)
        server.listen(
            lambda: kicks.append(None), sender="org.freedesktop.DBus", interface="org.example.Sig", member="S"
        )
        await until_owned(client)
        kicks.clear()
        failed: list[str] = []

        async def call_wait() -> None:
            try:
                await client.call(*ME, "Wait")
            except Unreachable as error:
                failed.append(error.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_wait)
            connection = server._connection
            assert connection is not None
            await until(lambda: connection._handled)
            await trio.to_thread.run_sync(private_bus.stop)
        assert len(failed) == 1
        await until(lambda: cancelled)
        await until(lambda: not server.connected and not client.connected)
        await trio.to_thread.run_sync(private_bus.start)
        await until(lambda: server.connected and client.connected)
        await until_owned(client)
        assert await client.call(*ME, "Echo", "s", "again") == ("again",)
        await until(lambda: kicks)


async def test_a_signal_kicks(private_bus: Any, codec: Codec) -> None:
    kicks: list[str] = []
    async with running(private_bus.address, codec) as server, running(private_bus.address, codec) as client:
        server.serve(NAME, echo)
        await until_owned(client)
        client.listen(lambda: kicks.append("any"), sender=NAME, interface="org.example.I", member="S")
        client.listen(
            lambda: kicks.append("/a"), sender=NAME, interface="org.example.I", member="S", path="/a"
        )
        await client.call(*ME, "Echo")  # the bus takes one thing after the other: the matches are in force
        server.emit("/b", "org.example.I", "S", "s", "text")
        server.emit("/b", "org.example.I", "Other", "s", "text")
        server.emit("/a", "org.example.I", "S")
        await until(lambda: len(kicks) == 3)
        await client.call(*ME, "Echo")
        assert kicks == ["any", "any", "/a"]


async def test_a_name_that_is_taken_is_ours_when_it_is_free(
    private_bus: Any, codec: Codec, caplog: Any
) -> None:
    async with running(private_bus.address, codec) as second:
        async with running(private_bus.address, codec) as first:
            first.serve(NAME, echo)
            await until_owned(second)
            second.serve(NAME, echo)
            await until(lambda: "another process has the bus name" in caplog.text)
            assert await ask_bus(second, "GetNameOwner") == first.unique_name
        await until_owned(second)
        assert await ask_bus(second, "GetNameOwner") == second.unique_name


async def test_a_name_that_is_refused_is_logged_and_the_rest_works(
    private_bus: Any, codec: Codec, caplog: Any
) -> None:
    async with running(private_bus.address, codec) as bus:
        bus.serve("org.example.Forbidden", echo)
        await until(lambda: "the bus refuses RequestName" in caplog.text)
        assert bus.connected
        assert await bus.call(bus.unique_name, "/", "org.example.I", "Echo", "s", "me") == ("me",)


async def test_a_bus_that_hangs_up_or_is_none_is_left_alone(stopped_bus: Any, codec: Codec) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(stopped_bus.folder / "bus"))
    listener.listen()
    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang_up, trio.socket.from_stdlib_socket(listener.dup()))
            async with running(stopped_bus.address, codec) as bus:
                with pytest.raises(Unreachable):
                    await bus.call(*ME, "Echo")
            nursery.cancel_scope.cancel()


async def hang_up(listener: trio.socket.SocketType) -> None:
    answers = [b"", b"REJECTED EXTERNAL\r\n", b"OK 1234\r\n", b"x" * 5000]
    with listener:
        while True:
            client, _ = await listener.accept()
            with client:
                await client.send(answers[0])
                answers.append(answers.pop(0))


async def test_busctl_tree_does_not_break_it(private_bus: Any, codec: Codec) -> None:
    async with running(private_bus.address, codec) as server:
        server.serve(NAME, echo)
        await until_owned(server)
        with pytest.raises(subprocess.CalledProcessError):
            await trio.to_thread.run_sync(private_bus.busctl, "introspect", NAME, "/o")
        assert server.connected
