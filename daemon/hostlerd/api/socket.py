"""The socket face: frames of hostler.frames over a UNIX stream socket; who calls is known from the connection.

Rules: anybody local may connect, so every wait on a peer has a limit and every size a bound. One request at a time on a
connection; while it runs the connection is watched, and a peer that hangs up, or shuts its side down, cancels it: so a
hook that died is rolled back. What a peer does wrong ends its connection and nothing else.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import stat
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import trio

from hostler import frames
from hostler.errors import BadInput, HostlerError, InUse, Refused, to_wire
from hostler.wire import MAX_FRAME
from hostlerd.api import Handed, Json, Peer, Service
from hostlerd.api.barrier import answer

log = logging.getLogger(__name__)

FRAME_LIMIT = 5.0
"""Seconds in which a frame that has begun must be complete."""
SEND_LIMIT = 10.0
"""Seconds in which a peer must take what it is sent."""
MOST_CONNECTIONS = 64
MOST_OF_A_USER = 16
"""Connections of one user; root's are not counted."""
KEPT_FOR_ROOT = 16
"""Of MOST_CONNECTIONS: libvirt's hooks run as root and must not be locked out by everybody else."""
_LONGEST_WORD = 100
"""Letters of an id or a method, so that an answer that repeats them fits in a frame."""
_BACKLOG = 64
_CHUNK = 65536
_FIRST_PASSED = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""
_SO_PEERPIDFD = 77
"""include/uapi/asm-generic/socket.h, Linux 6.5; not in Python's socket module."""


# Listening


def listeners(path: str) -> list[trio.SocketListener]:
    """What systemd passed, or a socket of our own at `path`. Raises BadInput, InUse."""
    return from_activation() or [listen(path)]


def listen(path: str) -> trio.SocketListener:
    """A socket at `path` that everybody may connect to. One that nobody answers on is replaced.

    Raises BadInput where `path` cannot be one, InUse where somebody answers there.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        # Nobody connects before listen(), so the mode that the umask left is never in force.
        os.chmod(path, 0o666)  # noqa: S103  reading is free to all, and the service judges every change
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise BadInput(
            f"no socket can be made at {path}: {error.strerror or error}", remedy="choose another path"
        ) from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise BadInput(f"{path} is there and is no socket", remedy="remove it, or choose another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(0)  # a full backlog then says EAGAIN: somebody is there
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
                return
            except BlockingIOError:
                pass
        raise InUse(
            f"another daemon answers at {path}", remedy="stop it first", data={"object": path, "holders": []}
        )
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadInput(f"{path} cannot be used: {error.strerror or error}") from error


def from_activation() -> list[trio.SocketListener]:
    """The sockets that systemd listens on for us (sd_listen_fds(3)), none where it started us without.

    Reads and clears LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES. Raises BadInput for a descriptor that is no listening
    UNIX stream socket.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found: list[trio.SocketListener] = []
    for descriptor in range(_FIRST_PASSED, _FIRST_PASSED + int(count)):
        sock = _listening(descriptor)
        if sock is None:
            raise BadInput(
                f"descriptor {descriptor} from systemd is no listening UNIX stream socket",
                remedy="hostler.socket must have ListenStream= with a path, and not Accept=yes",
            )
        found.append(trio.SocketListener(trio.socket.from_stdlib_socket(sock)))
    return found


def _listening(descriptor: int) -> socket.socket | None:
    """The listening UNIX stream socket behind `descriptor`, not for our children; None where it is none."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return None
    if (
        sock.family != socket.AF_UNIX
        or sock.type != socket.SOCK_STREAM
        or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        sock.detach()
        return None
    sock.set_inheritable(False)
    return sock


# Serving


async def serve(
    service: Service,
    listening: Sequence[trio.SocketListener],
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `listening` until cancelled; requests that run then are cancelled too."""
    seats = Seats()

    async def handle(stream: trio.SocketStream) -> None:
        peer = peer_of(stream.socket)
        connection = Connection(service, stream, peer)
        try:
            async with stream:
                if seats.take(peer.uid):
                    try:
                        await connection.run()
                    finally:
                        seats.leave(peer.uid)
                else:
                    await connection.turn_away()
        finally:
            if peer.pidfd is not None:
                os.close(peer.pidfd)

    await trio.serve_listeners(handle, list(listening), task_status=task_status)


class Seats:
    """Who holds how many connections."""

    def __init__(self) -> None:
        self._taken: dict[int | None, int] = {}

    def take(self, uid: int | None) -> bool:
        """Whether one more connection of `uid` is allowed; if so it counts until `leave`."""
        total, own = sum(self._taken.values()), self._taken.get(uid, 0)
        allowed = (
            total < MOST_CONNECTIONS
            if uid == 0
            else total - self._taken.get(0, 0) < MOST_CONNECTIONS - KEPT_FOR_ROOT
            and total < MOST_CONNECTIONS
            and own < MOST_OF_A_USER
        )
        if allowed:
            self._taken[uid] = own + 1
        return allowed

    def leave(self, uid: int | None) -> None:
        self._taken[uid] -= 1
        if not self._taken[uid]:
            del self._taken[uid]


class Connection:
    """One peer, from its first byte to its last."""

    def __init__(self, service: Service, stream: trio.SocketStream, peer: Peer) -> None:
        self._service: Final = service
        self._stream: Final = stream
        self._peer: Final = peer
        self._decoder: Final = frames.Decoder()
        self._sending: Final = trio.Lock()
        self._subscribed = False

    async def turn_away(self) -> None:
        """Say that there is no seat left, if it can be said at once."""
        refusal = Refused("the daemon has too many connections", remedy="close some, or try again later")
        try:
            await self._send({"id": None, "error": to_wire(refusal)})
        except (trio.BrokenResourceError, trio.TooSlowError):
            return

    async def run(self) -> None:
        """Answer until the peer hangs up or misbehaves."""
        try:
            async with trio.open_nursery() as events:
                await self._converse(events)
                events.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.TooSlowError) as group:
            log.info("dropped uid %s pid %s: %r", self._peer.uid, self._peer.pid, group.exceptions[0])

    async def _converse(self, events: trio.Nursery) -> None:
        while True:
            try:
                message = await self._receive()
            except BadInput as error:
                # What follows in the stream cannot be told apart from the rest of the bad frame.
                await self._send({"id": None, "error": to_wire(error)})
                return
            if message is None or not await self._respond(message, events):
                return

    async def _receive(self) -> dict[str, Any] | None:
        """The next message, None when the peer hung up. Raises BadInput, and TooSlowError for one that dawdles."""
        if not self._decoder.buffered and not await self._read():
            return None
        with trio.fail_after(FRAME_LIMIT):
            while (message := self._decoder.take()) is None:
                if not await self._read():
                    return None
        return message

    async def _read(self) -> bool:
        """Read once; False when the peer hung up. No checkpoint between the reading and the decoder."""
        data = await self._stream.receive_some(_CHUNK)
        self._decoder.feed(data)
        return bool(data)

    async def _respond(self, message: Mapping[str, Any], events: trio.Nursery) -> bool:
        """Perform one request and answer it. False when the peer hung up, which cancelled it."""
        replies: list[Json] = []
        try:
            return await self._perform(message, events, replies)
        finally:
            for reply in replies:
                if isinstance(reply.get("result"), Handed):
                    os.close(reply["result"].descriptor)

    async def _perform(self, message: Mapping[str, Any], events: trio.Nursery, replies: list[Json]) -> bool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            replies.append(await self._reply(message))
            nursery.cancel_scope.cancel()
        method = message.get("method")
        if not replies:
            log.info("uid %s pid %s hung up on %.40r", self._peer.uid, self._peer.pid, method)
            return False
        answered = trio.Event()
        if method == "subscribe" and "result" in replies[0] and not self._subscribed:
            self._subscribed = True
            events.start_soon(self._forward, self._service.subscribe(), answered)
        result = replies[0].get("result")
        handed = result.descriptor if isinstance(result, Handed) else None
        await self._send({"id": _ident(message), **replies[0]}, handed)
        answered.set()
        return True

    async def _watch(self, request: trio.CancelScope) -> None:
        """Cancel the request when the peer hangs up. What it sends meanwhile is kept, up to one frame."""
        try:
            while self._decoder.buffered <= MAX_FRAME + frames.HEADER:
                if not await self._read():
                    break
        except trio.BrokenResourceError:
            pass
        request.cancel()

    async def _reply(self, message: Mapping[str, Any]) -> Json:
        """`result` or `error`."""
        try:
            method, params = _request(message)
            return {"result": await answer(self._service, self._peer, method, params)}
        except HostlerError as error:
            return {"error": to_wire(error)}

    async def _forward(self, channel: trio.MemoryReceiveChannel[Json], answered: trio.Event) -> None:
        """Events from the subscription on, the first of them behind the answer to it."""
        async with channel:
            await answered.wait()
            async for event in channel:
                await self._send({"event": event})

    async def _send(self, message: Mapping[str, Any], descriptor: int | None = None) -> None:
        """`descriptor`: goes along with the first byte.

        Raises BrokenResourceError, TooSlowError: what the peer got is then a part of a frame, of no more use.
        """
        try:
            frame = frames.encode(message)
        except BadInput as error:
            log.error("to uid %s: %s", self._peer.uid, error.message)
            if "event" in message:
                return
            frame = frames.encode({"id": message.get("id"), "error": to_wire(error)})
        with trio.fail_after(SEND_LIMIT):
            async with self._sending:
                if descriptor is not None:
                    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))
                    try:
                        frame = frame[await self._stream.socket.sendmsg([frame], [rights]) :]
                    except OSError as error:
                        raise trio.BrokenResourceError from error
                await self._stream.send_all(frame)


def _ident(message: Mapping[str, Any]) -> int | str | None:
    """The request's id as far as it can be sent back."""
    ident = message.get("id")
    if isinstance(ident, str):
        return ident if len(ident) <= _LONGEST_WORD else None
    return ident if isinstance(ident, int) else None


def _request(message: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Method and parameters. Raises BadInput."""
    if _ident(message) is None:
        raise BadInput(f"a request needs an `id`, a number or a text of at most {_LONGEST_WORD} letters")
    method: object = message.get("method")
    if not isinstance(method, str) or len(method) > _LONGEST_WORD:
        raise BadInput(f"a request needs a `method`, a text of at most {_LONGEST_WORD} letters")
    params: Any = message.get("params") or {}
    if not isinstance(params, Mapping):
        raise BadInput("the `params` of a request are a map")
    return method, cast("Mapping[str, Any]", params)


# Who calls


def peer_of(sock: trio.socket.SocketType) -> Peer:
    """Credentials of whoever connected (unix(7), SO_PEERCRED). The caller closes `pidfd`."""
    pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    pidfd = _peer_pidfd(sock)
    if pid <= 0:  # of another PID namespace
        return Peer(uid=uid, pidfd=pidfd)
    started = start_time(pid)
    if pidfd is not None and _has_ended(pidfd):
        started = None  # the peer has ended, and the number may be another process's by now
    return Peer(uid=uid, pid=pid, start_time=started, pidfd=pidfd)


def _peer_pidfd(sock: trio.socket.SocketType) -> int | None:
    """None on a kernel without SO_PEERPIDFD, and for a peer that is gone already."""
    try:
        (pidfd,) = struct.unpack("i", sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4))
    except OSError as error:
        if error.errno not in {errno.ENOPROTOOPT, errno.ESRCH, errno.ENODATA, errno.EINVAL}:
            log.warning("no pidfd of a peer: %s", error)
        return None
    return int(pidfd)


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which the process started, field 22 of proc_pid_stat(5); None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may hold anything, parentheses and spaces too.
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _has_ended(pidfd: int) -> bool:
    """A pidfd becomes readable when its process ends (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
