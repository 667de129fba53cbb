"""Docker and Podman over their API sockets: names of containers, stopping and starting them.

Rules: Podman serves Docker's API on its own socket, so there is one client (docs.docker.com/reference/api/engine;
paths without a version, since each engine has its own oldest one). A socket that is there may belong to an engine that
hangs: every request runs in a thread that may be abandoned. podman.socket, which not every host has enabled, is started
through systemd when a container is to be stopped, never for a name. Other engines are not spoken to.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import trio

from hostler.errors import HostFailed, HostlerError, TimedOut, Unreachable, Unsupported
from hostlerd.host.threads import in_thread
from hostlerd.model.holders import Container

Activate = Callable[[str], Awaitable[None]]
"""Has systemd start a unit; returns before it has. Raises HostFailed."""

NAMES_LIMIT = 1.0
"""Seconds in which all engines have to tell names; they take milliseconds."""
ANSWER_LIMIT = 10.0
"""Seconds an engine may take beyond what it was given for the container's own end."""
ACTIVE_LIMIT = 2.0
MOST = 1 << 20
"""Bytes of an answer that are read."""

SOCKETS = {"docker": "docker.sock", "podman": "podman/podman.sock"}
"""Below /run, or below /run/user/UID for a rootless engine."""
UNITS = {"podman": "podman.socket"}
"""What makes the socket where it is missing."""
_DONE = frozenset({200, 204, 304})
"""304: it is stopped, or runs, already."""


class LiveEngines:
    """host.Engines of the live host. `run`: the folder of sockets."""

    def __init__(self, *, activate: Activate | None = None, run: str = "/run") -> None:
        self._activate, self._run = activate, run

    async def names(self, containers: Iterable[Container]) -> Mapping[Container, str]:
        """One request an engine, all at once; what comes too late is left out."""
        engines: dict[str, list[Container]] = {}
        for container in containers:
            if container.engine in SOCKETS:
                engines.setdefault(self._socket(container), []).append(container)
        found: dict[Container, str] = {}

        async def ask(path: str, of: list[Container]) -> None:
            try:
                found.update(await in_thread(_names, path, of, limit=NAMES_LIMIT, what=path))
            except (HostlerError, OSError):
                return  # the id has to do

        async with trio.open_nursery() as nursery:
            for path, of in engines.items():
                nursery.start_soon(ask, path, of)
        return found

    async def stop(self, container: Container, *, seconds: float) -> None:
        await self._tell(container, "stop", {"t": str(max(0, round(seconds)))}, seconds + ANSWER_LIMIT)

    async def start(self, container: Container) -> None:
        await self._tell(container, "start", {}, 2 * ANSWER_LIMIT)

    async def _tell(
        self, container: Container, verb: str, parameters: Mapping[str, str], limit: float
    ) -> None:
        if container.engine not in SOCKETS:
            raise Unsupported(
                f"hostler cannot {verb} containers of {container.engine} ({container.id})",
                remedy=f"{verb} it yourself",
                data={"object": container.id},
            )
        path = self._socket(container)
        unit = UNITS.get(container.engine)
        if self._activate is not None and unit and container.owner is None and not _is_socket(path):
            await self._activate(unit)
            with trio.move_on_after(ACTIVE_LIMIT):
                while not _is_socket(path):  # noqa: ASYNC110 - systemd tells nobody but its bus, and it takes milliseconds
                    await trio.sleep(0.01)
        target = f"/containers/{quote(container.id, safe='')}/{verb}?{urlencode(parameters)}"
        what = f"{container.engine}, asked to {verb} container {container.id[:12]},"
        try:
            status, answer = await in_thread(_request, path, "POST", target, limit, limit=limit, what=what)
        except TimeoutError as error:
            raise TimedOut(
                f"{what} did not answer within {limit:g} s", data={"object": container.id}
            ) from error
        except OSError as error:
            raise Unreachable(
                f"{container.engine} does not answer on {path}: {error.strerror or error}",
                remedy=f"{verb} container {container.id[:12]} yourself",
                data={"object": container.id},
            ) from error
        if status not in _DONE:
            words = answer.get("message") if isinstance(answer, dict) else None
            raise HostFailed(
                f"{what} says {words or f'HTTP {status}'}", data={"object": container.id, "status": status}
            )

    def _socket(self, container: Container) -> str:
        folder = self._run if container.owner is None else f"{self._run}/user/{container.owner}"
        return f"{folder}/{SOCKETS[container.engine]}"


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


class _Connection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _request(path: str, method: str, target: str, timeout: float) -> tuple[int, Any]:
    """Status, and the answer's JSON, None if there is none. Raises OSError for what is no HTTP, too."""
    connection = _Connection(path, timeout)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        text = response.read(MOST)
        return response.status, json.loads(text) if text.strip() else None
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"it does not speak as an engine does ({error or type(error).__name__})") from error
    finally:
        connection.close()


def _names(path: str, containers: Iterable[Container]) -> Mapping[Container, str]:
    """By GET /containers/json with a filter: `Names` are "/web" in Docker, "web" or "/web" in Podman."""
    ids = {container.id: container for container in containers}
    filters = json.dumps({"id": list(ids)})
    status, answer = _request(
        path, "GET", "/containers/json?" + urlencode({"all": "1", "filters": filters}), NAMES_LIMIT
    )
    found: dict[Container, str] = {}
    rows: list[Any] = answer if status == 200 and isinstance(answer, list) else []
    for row in rows:
        names = row.get("Names") if isinstance(row, dict) else None
        container = ids.get(str(row.get("Id"))) if isinstance(row, dict) else None
        if container is not None and isinstance(names, list) and names and isinstance(names[0], str):
            found[container] = names[0].removeprefix("/")
    return found
