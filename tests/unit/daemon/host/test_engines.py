"""Container engines, against one of the test's own on a UNIX socket."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from hostler.errors import HostFailed, HostlerError, TimedOut, Unreachable, Unsupported
from hostlerd.host import Engines, engines
from hostlerd.host.engines import LiveEngines
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.holders import Container

WEB, GAME = "1" * 64, "2" * 64


class FakeEngine(socketserver.ThreadingUnixStreamServer):
    """Docker's API as far as it is asked; `running` by id. It hangs while `hanging` is set."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(str(path), Handler)
        self.names = {WEB: "/web", GAME: "/game"}
        self.running = {WEB, GAME}
        self.requests: list[str] = []
        self.hanging = False
        self.garbage = False
        self.refuse: tuple[int, str] | None = None


class Handler(BaseHTTPRequestHandler):
    server: FakeEngine

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "local"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self._begin()
        assert url.path == "/containers/json"
        query = parse_qs(url.query)
        assert query["all"] == ["1"]
        ids = json.loads(query["filters"][0])["id"]
        self._answer(
            200, [{"Id": id_, "Names": [name]} for id_, name in self.server.names.items() if id_ in ids]
        )

    def do_POST(self) -> None:
        self._begin()
        _, containers, id_, verb = urlsplit(self.path).path.split("/")
        assert containers == "containers"
        if self.server.refuse is not None:
            self._answer(self.server.refuse[0], {"message": self.server.refuse[1]})
        elif id_ not in self.server.names:
            self._answer(404, {"message": f"No such container: {id_}"})
        elif (id_ in self.server.running) is (verb == "start"):
            self._answer(304, None)
        else:
            self.server.running ^= {id_}
            self._answer(204, None)

    def _begin(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        while self.server.hanging:
            time.sleep(0.01)

    def _answer(self, status: int, value: object) -> None:
        if self.server.garbage:
            self.wfile.write(b"220 mail.example.org ESMTP\r\n")
            return
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def docker(run: Path) -> Iterator[FakeEngine]:
    yield from served(run / "docker.sock")


def served(path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(path) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.hanging = False
        server.shutdown()
        thread.join()


def container(id_: str = WEB, engine: str = "docker", owner: int | None = None) -> Container:
    return Container(engine=engine, id=id_, owner=owner)


async def test_names(run: Path, docker: FakeEngine) -> None:
    asked = [container(), container(GAME), container("3" * 64), container("web", "lxc")]
    found = await LiveEngines(run=str(run)).names(asked)
    assert found == {asked[0]: "web", asked[1]: "game"}
    assert len(docker.requests) == 1


async def test_each_engine_tells_its_own(run: Path, docker: FakeEngine) -> None:
    docker.names = {WEB: "/web"}
    for server in served(run / "user/1000/podman/podman.sock"):
        server.names = {WEB: "toolbox"}
        asked = [container(), container(engine="podman", owner=1000), container(engine="podman")]
        found = await LiveEngines(run=str(run)).names(asked)
    assert found == {asked[0]: "web", asked[1]: "toolbox"}


async def test_an_engine_that_is_absent_hangs_or_babbles_tells_no_names(
    run: Path, docker: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "NAMES_LIMIT", 0.2)
    live = LiveEngines(run=str(run))
    assert await live.names([container(engine="podman")]) == {}
    docker.garbage = True
    assert await live.names([container()]) == {}
    docker.hanging = True
    with trio.fail_after(5):
        assert await live.names([container()]) == {}


async def test_stop_and_start(run: Path, docker: FakeEngine) -> None:
    live = LiveEngines(run=str(run))
    for _ in range(2):  # the second time it is so already
        await live.stop(container(), seconds=7.4)
    assert docker.running == {GAME}
    for _ in range(2):
        await live.start(container())
    assert docker.running == {WEB, GAME}
    assert docker.requests[0] == f"POST /containers/{WEB}/stop?t=7"


async def test_what_an_engine_refuses_is_told_in_its_words(run: Path, docker: FakeEngine) -> None:
    live = LiveEngines(run=str(run))
    with pytest.raises(HostFailed, match=f"No such container: {'3' * 64}"):
        await live.stop(container("3" * 64), seconds=1)
    docker.refuse = 500, "error gathering device information: no such file"
    with pytest.raises(HostFailed, match="no such file"):
        await live.start(container())


async def test_an_engine_that_hangs_is_given_up(
    run: Path, docker: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "ANSWER_LIMIT", 0.2)
    docker.hanging = True
    with trio.fail_after(5), pytest.raises(TimedOut):
        await LiveEngines(run=str(run)).stop(container(), seconds=0.1)


async def test_an_engine_that_is_not_there_or_is_none(run: Path, docker: FakeEngine) -> None:
    live = LiveEngines(run=str(run))
    with pytest.raises(Unreachable, match=r"podman\.sock"):
        await live.stop(container(engine="podman"), seconds=1)
    docker.garbage = True
    with pytest.raises(Unreachable, match="does not speak"):
        await live.stop(container(), seconds=1)
    with pytest.raises(Unsupported, match="lxc"):
        await live.stop(container("web", "lxc"), seconds=1)


async def test_podmans_socket_is_started_where_it_is_missing(run: Path) -> None:
    started: list[str] = []
    servers: list[Iterator[FakeEngine]] = []

    async def activate(unit: str) -> None:
        await trio.lowlevel.checkpoint()
        started.append(unit)
        servers.append(served(run / "podman/podman.sock"))
        server = next(servers[0])
        server.running.clear()

    live = LiveEngines(activate=activate, run=str(run))
    await live.start(container(engine="podman"))
    await live.start(container(engine="podman"))  # it is there by now
    assert started == ["podman.socket"]
    with pytest.raises(Unreachable):
        await live.start(container(engine="podman", owner=1000))
    assert started == ["podman.socket"]
    assert next(servers[0], None) is None


async def test_a_unit_that_systemd_does_not_have(run: Path) -> None:
    async def activate(unit: str) -> None:
        await trio.lowlevel.checkpoint()
        raise HostFailed(f"Unit {unit} not found.")

    with pytest.raises(HostFailed, match=r"podman\.socket not found"):
        await LiveEngines(activate=activate, run=str(run)).stop(container(engine="podman"), seconds=1)


@pytest.fixture(params=["live", "simulated"])
def both(request: pytest.FixtureRequest, run: Path, docker: FakeEngine) -> tuple[Engines, Container]:
    if request.param == "live":
        assert docker.names[WEB] == "/web"
        return LiveEngines(run=str(run)), container()
    host = SimulatedHost("desktop")
    params = {"name": "web", "address": "0000:01:00.0", "pid": 4000, "command": "obs"}
    id_ = trio.run(host.simulate, "contain", params)["id"]
    return host.engines, container(id_)


def test_the_simulated_engine_answers_as_the_real_one(both: tuple[Engines, Container]) -> None:
    maker, known = both
    unknown = container("f" * 64)

    async def ask() -> None:
        assert await maker.names([known, unknown]) == {known: "web"}
        for _ in range(2):
            await maker.stop(known, seconds=1)
        for _ in range(2):
            await maker.start(known)
        for call in (maker.stop(unknown, seconds=1), maker.start(unknown)):
            with pytest.raises(HostlerError, match="No such container"):
                await call

    trio.run(ask)
