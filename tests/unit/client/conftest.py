"""A daemon for the client to talk to: the real socket face in a thread, over a service that says what a test wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from hostler import wire
from hostlerd.api import Json, Peer, Published
from hostlerd.api import socket as face


class FakeDaemon:
    """`answers`: method to result, error to raise, or a function of the parameters. `asked`: what was asked."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.answers: dict[str, Any] = {"subscribe": {}}
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.rolled_back: list[str] = []
        self.rolled_back_one = threading.Event()
        self.events: list[Json] = []
        self.published = Published()
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,))

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(face.serve, self, [face.listen(self.path)])
                self._ready.set()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def call(self, peer: Peer, method: str, params: Mapping[str, Any]) -> Any:
        self.asked.append((method, params))
        answer = self.answers[method]
        if answer is Ellipsis:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                self.rolled_back.append(method)
                self.rolled_back_one.set()
                raise
        if isinstance(answer, Exception):
            raise answer
        return answer(params) if callable(answer) else answer

    def subscribe(self) -> trio.MemoryReceiveChannel[Json]:
        """The prepared events, and then the end of them, on which the connection stays open."""
        send, receive = trio.open_memory_channel[Json](len(self.events))
        for event in self.events:
            send.send_nowait(event)
        send.close()
        return receive

    async def wait_published(self, previous: Published) -> Published:
        raise NotImplementedError


@pytest.fixture
def no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a socket that is not there, set in the environment."""
    path = str(tmp_path / "hostler.sock")
    monkeypatch.setenv(wire.SOCKET_VARIABLE, path)
    return path


@pytest.fixture
def daemon(no_daemon: str) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(no_daemon)
    fake.start()
    yield fake
    fake.stop()


Serve = Callable[[Callable[[socket.socket], None]], None]


@pytest.fixture
def impostor(no_daemon: str) -> Iterator[Serve]:
    """Something else at the socket: what the given function does with each connection."""
    stopped = threading.Event()
    threads: list[threading.Thread] = []
    with socket.socket(socket.AF_UNIX) as listener:

        def serve(behave: Callable[[socket.socket], None]) -> None:
            listener.bind(no_daemon)
            listener.listen()

            def run() -> None:
                while not stopped.is_set():
                    connection, _ = listener.accept()
                    with connection:
                        if not stopped.is_set():
                            behave(connection)

            threads.append(threading.Thread(target=run))
            threads[0].start()

        yield serve
        stopped.set()
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(no_daemon)
        threads[0].join(10)
