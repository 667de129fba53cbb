"""The socket face against friendly and hostile clients, over real sockets and, where there is a limit, a fake clock."""

from __future__ import annotations

import os
import random
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hostler import frames
from hostler.errors import BadInput, InUse, NotAuthorised
from hostler.wire import MAX_FRAME
from hostlerd.api import Json, Peer, Published
from hostlerd.api import socket as face


class FakeService:
    """Answers with its parameters; some methods do what their name says."""

    def __init__(self) -> None:
        self.published = Published()
        self.peers: list[Peer] = []
        self.calls: list[str] = []
        self.cancelled: list[str] = []
        self.running = trio.Event()
        self.events: list[trio.MemorySendChannel[Json]] = []

    async def call(self, peer: Peer, method: str, params: Mapping[str, Any]) -> Json:
        self.peers.append(peer)
        self.calls.append(method)
        match method:
            case "refuse":
                raise NotAuthorised("no", remedy="ask root", data={"action": "a"})
            case "fault":
                raise ZeroDivisionError
            case "large":
                return {"text": "x" * MAX_FRAME}
            case "unsendable":
                return {"set": {1}}
            case "block":
                self.running.set()
                try:
                    await trio.sleep_forever()
                except trio.Cancelled:
                    self.cancelled.append(method)
                    raise
        return {"method": method, **params}

    def subscribe(self) -> trio.MemoryReceiveChannel[Json]:
        send, receive = trio.open_memory_channel[Json](1000)
        self.events.append(send)
        return receive

    async def wait_published(self, previous: Published) -> Published:
        raise NotImplementedError


class Client:
    """A client that can do everything wrong."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.decoder = frames.Decoder()

    async def send(self, message: Mapping[str, object]) -> None:
        await self.stream.send_all(frames.encode(message))

    async def receive(self) -> dict[str, Any]:
        """The next message; EOFError when the daemon has closed."""
        while (message := self.decoder.take()) is None:
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise EOFError
            self.decoder.feed(data)
        return message

    async def ask(self, method: str, **params: object) -> dict[str, Any]:
        await self.send({"id": 1, "method": method, "params": params})
        return await self.receive()

    async def is_closed(self) -> bool:
        try:
            await self.receive()
        except EOFError:
            return True
        return False


class Served:
    def __init__(self, service: FakeService, path: str) -> None:
        self.service = service
        self.path = path
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(await trio.open_unix_socket(self.path))
        self.clients.append(client)
        return client


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(FakeService(), str(tmp_path / "s"))
    async with trio.open_nursery() as nursery:
        await nursery.start(face.serve, served.service, face.listeners(served.path))
        yield served
        for client in served.clients:
            await trio.aclose_forcefully(client.stream)
        nursery.cancel_scope.cancel()


def is_there(path: str) -> bool:
    return os.path.exists(path)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_answers_one_request_after_the_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        for number in range(3):
            await client.send({"id": number, "method": "status", "params": {"a": number}})
            assert await client.receive() == {"id": number, "result": {"method": "status", "a": number}}


async def test_tells_the_service_who_calls(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await (await served.connect()).ask("hello")
    (peer,) = served.service.peers
    assert (peer.uid, peer.pid) == (os.getuid(), os.getpid())
    assert peer.start_time == face.start_time(os.getpid())
    assert peer.start_time is not None


async def test_closes_the_pidfd_with_the_connection(tmp_path: Path) -> None:
    before = open_descriptors()
    async with serving(tmp_path) as served:
        for _ in range(5):
            client = await served.connect()
            await client.ask("hello")
            await client.stream.aclose()
        await wait_all_tasks_blocked()
    assert open_descriptors() == before


async def test_errors_come_with_name_remedy_and_data(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        assert await client.ask("refuse") == {
            "id": 1,
            "error": {
                "name": "org.hostler1.Error.NotAuthorised",
                "message": "no",
                "remedy": "ask root",
                "data": {"action": "a"},
            },
        }


async def test_a_fault_of_ours_ends_one_request_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        error = (await client.ask("fault"))["error"]
        assert error["name"] == "org.hostler1.Error.Internal"
        assert error["data"]["id"] in error["message"]
        assert "ZeroDivisionError" in error["message"]
        assert "result" in await client.ask("hello")
    (record,) = (record for record in caplog.records if record.exc_info)
    assert error["data"]["id"] in record.getMessage()


@pytest.mark.parametrize("method", ["large", "unsendable"])
async def test_an_answer_that_cannot_be_sent_is_an_error(tmp_path: Path, method: str) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        answer = await client.ask(method)
        assert answer["id"] == 1
        assert answer["error"]["name"] == "org.hostler1.Error.BadInput"
        assert "result" in await client.ask("hello")


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"id": 1},
        {"id": None, "method": "hello"},
        {"id": [1], "method": "hello"},
        {"id": "x" * (MAX_FRAME - 100), "method": "hello"},
        {"id": 1, "method": 5},
        {"id": 1, "method": "x" * (MAX_FRAME - 100)},
        {"id": 1, "method": "hello", "params": [1]},
        {"id": 1, "method": "hello", "params": "text"},
    ],
)
async def test_a_request_without_its_parts_is_refused_and_the_connection_stays(
    tmp_path: Path, request_: dict[str, object]
) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        await client.send(request_)
        assert (await client.receive())["error"]["name"] == "org.hostler1.Error.BadInput"
        assert served.service.calls == []
        assert "result" in await client.ask("hello")


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        (MAX_FRAME + 1).to_bytes(4, "big"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x01\x90",
        b"\x00\x00\x00\x03\x81\xc4\x00",
        b"\x00\x00\x00\x02\x80\x80",
    ],
)
async def test_what_is_no_frame_is_answered_and_ends_the_connection(tmp_path: Path, junk: bytes) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        await client.stream.send_all(junk)
        answer = await client.receive()
        assert answer["id"] is None
        assert answer["error"]["name"] == "org.hostler1.Error.BadInput"
        assert await client.is_closed()
        assert "result" in await (await served.connect()).ask("hello")


async def test_a_frame_cut_short_by_a_hang_up_is_forgotten(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        await client.stream.send_all(frames.encode({"id": 1, "method": "hello"})[:-1])
        await client.stream.send_eof()
        assert await client.is_closed()
        assert served.service.calls == []


async def test_two_thousand_frames_of_noise(tmp_path: Path) -> None:
    noise = random.Random(7)
    good = frames.encode({"id": 1, "method": "hello", "params": {"a": [1, {"b": "c"}]}})
    async with serving(tmp_path) as served:
        before = open_descriptors()
        for _ in range(2000):
            stream = await trio.open_unix_socket(served.path)
            data = bytearray(good)
            for _ in range(noise.randrange(1, 6)):
                data[noise.randrange(len(data))] = noise.randrange(256)
            try:
                await stream.send_all(bytes(data[: noise.randrange(1, len(data) + 1)]))
                await stream.send_eof()
                while await stream.receive_some(65536):
                    pass
            except trio.BrokenResourceError:
                pass
            await stream.aclose()
        await wait_all_tasks_blocked()
        assert open_descriptors() == before
        assert "result" in await (await served.connect()).ask("hello")


async def test_a_frame_must_end_soon_after_it_began(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        await trio.sleep(1000)  # an idle connection may stay
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def dribble() -> None:
                try:
                    for byte in frames.encode({"id": 1, "method": "hello"}):
                        await client.stream.send_all(bytes([byte]))
                        await trio.sleep(1)
                except trio.BrokenResourceError:
                    pass

            nursery.start_soon(dribble)
            assert await client.is_closed()
            assert trio.current_time() - began == pytest.approx(face.FRAME_LIMIT, abs=0.1)
            nursery.cancel_scope.cancel()
        assert served.service.calls == []


async def test_a_peer_that_never_reads_is_dropped(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        await client.ask("subscribe")
        began = trio.current_time()
        (events,) = served.service.events
        for _ in range(1000):
            events.send_nowait({"text": "x" * 10000})
        with trio.fail_after(60):
            while events.statistics().open_receive_channels:  # noqa: ASYNC110  it tells nobody; the clock is fake
                await trio.sleep(1)
        assert trio.current_time() - began <= face.SEND_LIMIT + 2
        assert "result" in await (await served.connect()).ask("hello")


@pytest.mark.parametrize("how", ["close", "shutdown", "reset"])
async def test_hanging_up_cancels_the_request(tmp_path: Path, how: str) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        await client.send({"id": 1, "method": "block"})
        await served.service.running.wait()
        match how:
            case "close":
                await client.stream.aclose()
            case "shutdown":
                await client.stream.send_eof()
            case "reset":  # bytes that we never read make the kernel report a reset
                await client.stream.send_all(b"\x00")
                await trio.aclose_forcefully(client.stream)
        await wait_all_tasks_blocked()
        assert served.service.cancelled == ["block"]


async def test_a_client_that_is_killed_hangs_up(tmp_path: Path) -> None:
    program = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(bytes.fromhex(sys.argv[2])); s.recv(1)"
    )
    frame = frames.encode({"id": 1, "method": "block"}).hex()
    async with serving(tmp_path) as served:
        process = await trio.lowlevel.open_process([sys.executable, "-c", program, served.path, frame])
        await served.service.running.wait()
        process.kill()
        with trio.fail_after(10):
            while not served.service.cancelled:
                await wait_all_tasks_blocked(0.01)
        await process.wait()


async def test_the_next_request_may_arrive_while_one_runs(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        first, second = ({"id": number, "method": "hello"} for number in (1, 2))
        await client.stream.send_all(frames.encode(first) + frames.encode(second))
        assert [(await client.receive())["id"], (await client.receive())["id"]] == [1, 2]


async def test_whoever_floods_while_a_request_runs_is_dropped(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        await client.send({"id": 1, "method": "block"})
        await served.service.running.wait()
        with pytest.raises(trio.BrokenResourceError):
            await client.stream.send_all(b"x" * (4 * MAX_FRAME))
        assert served.service.cancelled == ["block"]


async def test_events_follow_the_answer_to_subscribe(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        assert "result" in await client.ask("subscribe")
        served.service.events[0].send_nowait({"text": "one"})
        assert await client.receive() == {"event": {"text": "one"}}
        assert "result" in await client.ask("status")
        served.service.events[0].send_nowait({"text": "x" * MAX_FRAME})  # cannot be sent, so it is left out
        served.service.events[0].send_nowait({"text": "two"})
        assert await client.receive() == {"event": {"text": "two"}}


async def test_a_second_subscription_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        await client.ask("subscribe")
        await client.ask("subscribe")
        assert len(served.service.events) == 1


async def test_hanging_up_ends_the_subscription(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        await client.ask("subscribe")
        await client.stream.aclose()
        await wait_all_tasks_blocked()
        assert served.service.events[0].statistics().open_receive_channels == 0


async def test_stopping_cancels_what_runs_and_closes(tmp_path: Path) -> None:
    service = FakeService()
    path = str(tmp_path / "s")
    async with trio.open_nursery() as nursery:
        await nursery.start(face.serve, service, [face.listen(path)])
        client = Client(await trio.open_unix_socket(path))
        await client.send({"id": 1, "method": "block"})
        await service.running.wait()
        nursery.cancel_scope.cancel()
    assert service.cancelled == ["block"]
    assert await client.is_closed()
    await trio.aclose_forcefully(client.stream)


def count_seats(seats: face.Seats, uid: int, most: int = 1000) -> int:
    return sum(seats.take(uid) for _ in range(most))


def test_a_user_has_so_many_seats() -> None:
    seats = face.Seats()
    assert count_seats(seats, 1000) == face.MOST_OF_A_USER
    seats.leave(1000)
    assert count_seats(seats, 1000) == 1


def test_root_is_never_locked_out_by_users() -> None:
    seats = face.Seats()
    taken = sum(count_seats(seats, uid) for uid in range(1000, 1100))
    assert taken == face.MOST_CONNECTIONS - face.KEPT_FOR_ROOT
    assert count_seats(seats, 0) == face.KEPT_FOR_ROOT


def test_root_may_take_all_seats() -> None:
    seats = face.Seats()
    assert count_seats(seats, 0) == face.MOST_CONNECTIONS
    assert count_seats(seats, 1000) == 0


async def test_one_too_many_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "MOST_CONNECTIONS", 2)
    monkeypatch.setattr(face, "KEPT_FOR_ROOT", 0)
    async with serving(tmp_path) as served:
        first = await served.connect()
        assert "result" in await first.ask("hello")
        assert "result" in await (await served.connect()).ask("hello")
        turned_away = await served.connect()
        assert (await turned_away.receive())["error"]["name"] == "org.hostler1.Error.Refused"
        assert await turned_away.is_closed()
        await first.stream.aclose()
        await wait_all_tasks_blocked()
        assert "result" in await (await served.connect()).ask("hello")


# Listening


async def test_everybody_may_connect_whatever_the_umask(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    before = os.umask(0o177)
    try:
        listener = face.listen(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    await listener.aclose()


async def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    await face.listen(path).aclose()
    assert is_there(path)
    await face.listen(path).aclose()


@pytest.mark.parametrize("backlog_is_full", [False, True])
async def test_a_socket_that_somebody_answers_is_left_alone(tmp_path: Path, backlog_is_full: bool) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(path)
        other.listen(0)
        if backlog_is_full:
            waiting.connect(path)
        with pytest.raises(InUse) as caught:
            face.listen(path)
        assert path in caught.value.sentence
        assert is_there(path)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
async def test_what_is_no_socket_is_left_alone(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "s"
    make(path)
    with pytest.raises(BadInput):
        face.listen(str(path))
    assert path.exists()


@pytest.mark.parametrize("path", ["missing/s", "s" * 200])
async def test_a_place_for_no_socket_is_bad_input(tmp_path: Path, path: str) -> None:
    with pytest.raises(BadInput) as caught:
        face.listen(str(tmp_path / path))
    assert str(tmp_path) in caught.value.sentence


def activated(monkeypatch: pytest.MonkeyPatch, *descriptors: int, pid: int | None = None) -> None:
    first = descriptors[0] if descriptors else 3
    monkeypatch.setattr(face, "_FIRST_PASSED", first)
    monkeypatch.setenv("LISTEN_PID", str(pid or os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", str(len(descriptors)))
    monkeypatch.setenv("LISTEN_FDNAMES", "hostler.socket")


async def test_sockets_that_systemd_passed_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "s")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    descriptor = sock.detach()
    os.set_inheritable(descriptor, True)
    activated(monkeypatch, descriptor)
    (listener,) = face.listeners("/nowhere/at/all")
    assert not os.get_inheritable(descriptor)
    assert not any(name.startswith("LISTEN_") for name in os.environ)
    async with trio.open_nursery() as nursery:
        await nursery.start(face.serve, FakeService(), [listener])
        client = Client(await trio.open_unix_socket(path))
        assert "result" in await client.ask("hello")
        await client.stream.aclose()
        nursery.cancel_scope.cancel()


def test_sockets_for_another_process_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    activated(monkeypatch, 3, pid=os.getpid() + 1)
    assert face.from_activation() == []


def test_started_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    assert face.from_activation() == []


@pytest.mark.parametrize("kind", ["file", "not listening", "datagram", "tcp", "closed"])
def test_a_descriptor_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    match kind:
        case "file":
            descriptor = os.open("/dev/null", os.O_RDONLY)
        case "not listening":
            descriptor = socket.socket(socket.AF_UNIX).detach()
        case "datagram":
            descriptor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()
        case "tcp":
            tcp = socket.socket(socket.AF_INET)
            tcp.listen()
            descriptor = tcp.detach()
        case _:
            descriptor = os.open("/dev/null", os.O_RDONLY)
            os.close(descriptor)
    activated(monkeypatch, descriptor)
    try:
        with pytest.raises(BadInput):
            face.from_activation()
    finally:
        if kind != "closed":
            os.close(descriptor)


# Who calls


def test_start_time_is_that_of_the_kernel() -> None:
    with open("/proc/self/stat") as file:
        assert str(face.start_time(os.getpid())) in file.read().split()
    assert face.start_time(2**22 + 1) is None


async def test_a_peer_that_has_ended_has_no_start_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        sock = trio.socket.from_stdlib_socket(ours)
        peer = face.peer_of(sock)
        if peer.pidfd is not None:
            os.close(peer.pidfd)
            monkeypatch.setattr(face, "_has_ended", lambda _pidfd: True)
            peer = face.peer_of(sock)
            assert peer.start_time is None
            assert peer.pidfd is not None
            os.close(peer.pidfd)
        sock.close()


async def test_a_kernel_without_pidfds_of_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "_SO_PEERPIDFD", 9999)
    ours, theirs = socket.socketpair()
    with theirs:
        sock = trio.socket.from_stdlib_socket(ours)
        peer = face.peer_of(sock)
        assert peer.pidfd is None
        assert peer.start_time is not None
        sock.close()
