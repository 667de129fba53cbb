"""Locks and questions about the host's sleep, against a logind of the test's own on a bus of the test's own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from hostler.errors import TimedOut, Unreachable
from hostlerd.host import Sleep, logind
from hostlerd.host.bus import PROPERTIES, Bus, CallFailed, Codec, Kind, Message, Reply, Variant, descriptor
from hostlerd.host.logind import Logind

SOON = 10.0


class FakeLogind:
    """The two methods of org.freedesktop.login1 that are called. A lock is a FIFO whose other end it keeps."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.near = False
        self.asked: list[tuple[Any, ...]] = []
        self.kept: list[int] = []
        self.descriptors = 1
        self.refuse: CallFailed | None = None
        self.silent = False

    def handle(self, call: Message) -> Any:
        if self.silent:
            return self._never()
        if self.refuse is not None:
            raise self.refuse
        return getattr(self, call.member)(call)

    async def _never(self) -> Reply:
        await trio.sleep_forever()
        raise AssertionError

    def Get(self, call: Message) -> Reply:  # noqa: N802 - logind's name
        assert (call.path, call.interface) == (logind.PATH, PROPERTIES)
        assert call.body == (logind.MANAGER, "PreparingForSleep")
        return Reply("v", (Variant("b", self.near),))

    def Inhibit(self, call: Message) -> Any:  # noqa: N802
        assert (call.path, call.interface, call.signature) == (logind.PATH, logind.MANAGER, "ssss")
        self.asked.append(call.body)
        connection = self.bus._connection
        assert connection is not None
        ends = [os.pipe() for _ in range(self.descriptors)]
        connection.send(
            Message(
                kind=Kind.RETURN,
                reply_to=call.serial,
                destination=call.sender,
                signature="h",
                body=(0,),
                fds=tuple(theirs for _, theirs in ends),
            )
        )
        for ours, theirs in ends:
            os.close(theirs)
            self.kept.append(ours)
        return self._never()

    def sleep(self, *, near: bool) -> None:
        self.near = near
        self.bus.emit(logind.PATH, logind.MANAGER, "PrepareForSleep", "b", near)

    def is_let_go(self, number: int = 0) -> bool:
        os.set_blocking(self.kept[number], False)
        try:
            return os.read(self.kept[number], 1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        for fd in self.kept:
            os.close(fd)


@asynccontextmanager
async def logind_on(address: str, codec: Codec) -> AsyncIterator[tuple[FakeLogind, Sleep]]:
    async with trio.open_nursery() as nursery:
        server, client = Bus(address, codec=codec), Bus(address, codec=codec)
        fake = FakeLogind(server)
        server.serve(logind.LOGIND, fake.handle)
        await nursery.start(server.run)
        await nursery.start(client.run)
        bus = "org.freedesktop.DBus"
        with trio.fail_after(SOON):
            while (
                await client.call(bus, "/org/freedesktop/DBus", bus, "NameHasOwner", "s", logind.LOGIND)
            ) != (True,):
                await trio.lowlevel.checkpoint()
        yield fake, Logind(client)
        nursery.cancel_scope.cancel()
    fake.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_lock_is_had_and_let_go(private_bus: Any, codec: Codec) -> None:
    async with logind_on(private_bus.address, codec) as (fake, sleep):
        before = descriptors()
        lock = await sleep.lock("block", "win11 has 0000:01:00.0")
        assert lock is not None
        assert fake.asked == [("sleep", "hostler", "win11 has 0000:01:00.0", "block")]
        assert not fake.is_let_go()
        lock.release()
        lock.release()
        assert fake.is_let_go()
        assert descriptors() == before + 1  # the fake's own end


async def test_a_lock_outlives_the_bus(private_bus: Any, codec: Codec) -> None:
    async with logind_on(private_bus.address, codec) as (fake, sleep):
        lock = await sleep.lock("delay", "why")
        assert lock is not None
        private_bus.stop()
        await trio.sleep(0.05)
        assert not fake.is_let_go()
        lock.release()
        assert fake.is_let_go()


@pytest.mark.parametrize("number", [0, 2])
async def test_an_answer_that_came_with_anything_else_gives_no_lock(
    private_bus: Any, codec: Codec, number: int
) -> None:
    async with logind_on(private_bus.address, codec) as (fake, sleep):
        fake.descriptors = number
        before = descriptors()
        assert await sleep.lock("block", "why") is None
        assert all(fake.is_let_go(n) for n in range(number))
        assert descriptors() == before + number


async def test_no_logind_and_one_that_refuses(private_bus: Any, codec: Codec) -> None:
    async with trio.open_nursery() as nursery:
        client = Bus(private_bus.address, codec=codec)
        sleep = Logind(client)
        assert await sleep.lock("block", "why") is None  # no bus yet
        assert not await sleep.is_near()
        await nursery.start(client.run)
        assert await sleep.lock("block", "why") is None
        assert not await sleep.is_near()
        nursery.cancel_scope.cancel()
    async with logind_on(private_bus.address, codec) as (fake, sleep):
        fake.refuse = CallFailed("org.freedesktop.DBus.Error.AccessDenied", "no")
        assert await sleep.lock("block", "why") is None
        assert not await sleep.is_near()


async def test_a_logind_that_does_not_answer(
    private_bus: Any, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with logind_on(private_bus.address, codec) as (fake, _):
        fake.silent = True
        call = Message(
            kind=Kind.CALL,
            destination=logind.LOGIND,
            path=logind.PATH,
            interface=logind.MANAGER,
            member="Inhibit",
            signature="ssss",
            body=("sleep", "hostler", "why", "block"),
        )
        before = descriptors()
        with pytest.raises(TimedOut, match=r"did not answer Inhibit within 0\.1 s"):
            await descriptor.call_for_descriptor(private_bus.address, codec, call, limit=0.1)
        assert descriptors() == before
    private_bus.stop()
    with pytest.raises(Unreachable):
        await descriptor.call_for_descriptor(private_bus.address, codec, call)


async def test_before_and_after_the_host_sleeps(private_bus: Any, codec: Codec) -> None:
    async with logind_on(private_bus.address, codec) as (fake, sleep):
        send, heard = trio.open_memory_channel[None](10)
        sleep.listen(lambda: send.send_nowait(None))
        await trio.testing.wait_all_tasks_blocked()
        assert not await sleep.is_near()  # answered after the match, which is on its way to the bus
        for near in (True, False):
            fake.sleep(near=near)
            with trio.fail_after(SOON):
                await heard.receive()
            assert await sleep.is_near() is near
