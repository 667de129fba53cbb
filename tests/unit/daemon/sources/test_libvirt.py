"""The libvirt source: when it tries, when it only waits, and what kicks."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from hostler.errors import HostlerError, TimedOut, Unreachable
from hostlerd.host import Kick
from hostlerd.sources import libvirt as source

ABSENT = Unreachable("nobody listens", data={"errno": errno.ENOENT})
REFUSED = Unreachable("nobody listens", data={"errno": errno.ECONNREFUSED})
DENIED = Unreachable("authentication failed", data={"errno": 0})


class FakeConnection:
    """`answers`: what each try meets; None is success, and so is every further try."""

    uri = "qemu:///system"

    def __init__(self, *answers: HostlerError | None, sockets: tuple[str, ...] = ()) -> None:
        self.answers = list(answers)
        self.sockets = sockets
        self.tries: list[float] = []
        self.changed: Kick | None = None
        self.lost = trio.Event()
        self.closed = False

    async def connect(self, changed: Kick) -> None:
        await trio.lowlevel.checkpoint()
        self.tries.append(trio.current_time())
        if self.answers and (answer := self.answers.pop(0)):
            raise answer
        self.changed = changed

    async def wait_lost(self) -> str:
        await self.lost.wait()
        self.lost = trio.Event()
        return "end of file"

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = True

    @property
    def pauses(self) -> list[float]:
        return [round(later - earlier) for earlier, later in zip(self.tries, self.tries[1:], strict=False)]


class Source:
    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.kicks = 0

    def kick(self) -> None:
        self.kicks += 1

    async def start(self, connection: FakeConnection) -> None:
        await self._nursery.start(source.run, connection, self.kick)


@pytest.fixture
async def running(nursery: trio.Nursery) -> Source:
    return Source(nursery)


async def test_starting_does_not_wait_for_libvirt(nursery: trio.Nursery) -> None:
    class Never(FakeConnection):
        async def connect(self, changed: Kick) -> None:
            await trio.sleep_forever()

    with trio.fail_after(1):
        await nursery.start(source.run, Never(), lambda: None)


async def test_connected_and_every_event_kicks(running: Source) -> None:
    connection = FakeConnection()
    await running.start(connection)
    await trio.testing.wait_all_tasks_blocked()
    assert running.kicks == 1
    assert connection.changed is not None
    connection.changed()
    assert running.kicks == 2


async def test_it_tries_again_more_and_more_seldom(
    running: Source, autojump_clock: trio.testing.MockClock
) -> None:
    connection = FakeConnection(*[DENIED] * 8)
    await running.start(connection)
    await trio.sleep(300)
    assert connection.pauses == [1, 2, 5, 10, 30, 30, 30, 30]
    assert running.kicks == 1


@pytest.mark.parametrize("error", [ABSENT, REFUSED])
async def test_an_absent_libvirt_is_not_polled_for(
    running: Source, autojump_clock: trio.testing.MockClock, tmp_path: Path, error: Unreachable
) -> None:
    connection = FakeConnection(*[error] * 99, sockets=(str(tmp_path / "socket"),))
    await running.start(connection)
    await trio.sleep(80_000)
    assert connection.pauses == [1, 2, 5, 10, 30]
    assert running.kicks == 0


async def test_a_socket_that_appears_is_tried_at_once(running: Source, tmp_path: Path) -> None:
    path = tmp_path / "libvirt" / "libvirt-sock"
    connection = FakeConnection(ABSENT, ABSENT, sockets=(str(path),))
    await running.start(connection)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert len(connection.tries) == 1
    path.parent.mkdir()
    await until(lambda: len(connection.tries) == 2)
    path.touch()
    await until(lambda: running.kicks == 1)
    assert sum(connection.pauses) < 1


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - inotify has its own time
            await trio.sleep(0.01)


async def test_a_lost_connection_kicks_and_is_made_anew(
    running: Source, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    connection = FakeConnection(None, REFUSED, None)
    await running.start(connection)
    await trio.sleep(100)
    connection.lost.set()
    await trio.sleep(0.5)
    assert running.kicks == 2
    await trio.sleep(10)
    assert running.kicks == 3
    assert connection.pauses == [101, 2]
    assert "is lost: end of file" in caplog.text


async def test_a_libvirt_that_hangs_up_at_once_is_not_hammered(
    running: Source, autojump_clock: trio.testing.MockClock
) -> None:
    connection = FakeConnection()

    async def hang_up() -> str:
        await trio.lowlevel.checkpoint()
        return "end of file"

    connection.wait_lost = hang_up  # type: ignore[method-assign]
    await running.start(connection)
    await trio.sleep(200)
    assert connection.pauses[:7] == [1, 2, 5, 10, 30, 30, 30]


async def test_the_same_reason_is_logged_once(
    running: Source, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await running.start(FakeConnection(*[DENIED] * 5, TimedOut("no answer"), DENIED))
    await trio.sleep(1000)
    assert caplog.text.count("authentication failed") == 2
    assert caplog.text.count("no answer") == 1


async def test_where_nothing_can_be_watched_it_goes_on_trying(
    running: Source,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def none_left(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(source, "appearances", none_left)
    connection = FakeConnection(*[ABSENT] * 7, sockets=("/run/libvirt/libvirt-sock",))
    await running.start(connection)
    await trio.sleep(200)
    assert connection.pauses == [1, 2, 5, 10, 30, 30, 30]


async def test_the_connection_is_closed_in_the_end() -> None:
    connection = FakeConnection()
    async with trio.open_nursery() as nursery:
        await nursery.start(source.run, connection, lambda: None)
        nursery.cancel_scope.cancel()
    assert connection.closed
