"""The blocking client: one connection to the daemon's UNIX socket, one request at a time.

Rules: every failure is one of `hostler.errors`; every call has one deadline over all it does. Imports decide how fast
the command line starts: `_socket` instead of `socket` (which brings selectors and enum), no typing, no dataclasses.
"""

from __future__ import annotations

import _socket
import _struct
import errno
import os
from time import monotonic

from hostler import frames, wire
from hostler.errors import BadInput, HostlerError, Internal, TimedOut, Unreachable, from_wire
from hostler.shapes import is_list, is_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

CALL_LIMIT = 30.0
"""Seconds a call may take where the caller says nothing else."""
_CHUNK = 65536
_DESCRIPTORS = 4
"""As many are taken at once; one is expected."""
_START = "start it with `systemctl start hostler.socket`, or name another socket with --socket"


class Connection:
    """A connection to the daemon. `path`: the argument, else $HOSTLER_SOCKET, else /run/hostler/hostler.sock.

    Raises Unreachable; its data has `path` and, where the kernel said no, `errno`: ENOENT or ECONNREFUSED mean that no
    daemon is there, EACCES that it may not be asked.
    """

    __slots__ = ("_decoder", "_descriptors", "_last", "_socket", "path")

    def __init__(self, path: str | None = None, *, limit: float = CALL_LIMIT) -> None:
        self.path = path or os.environ.get(wire.SOCKET_VARIABLE) or wire.SOCKET
        self._decoder = frames.Decoder()
        self._descriptors: list[int] | None = None
        self._last = 0
        self._socket = _connect(self.path, limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. What was asked and not answered is rolled back by the daemon."""
        self._socket.close()

    def call(
        self, method: str, params: Mapping[str, object] | None = None, *, limit: float = CALL_LIMIT
    ) -> object:
        """Ask and wait for the answer, `limit` seconds in all. Raises hostler.errors."""
        deadline = monotonic() + limit
        self._last += 1
        frame = frames.encode({"id": self._last, "method": method, "params": dict(params or {})})
        try:
            refused = self._send(frame, deadline)
            while True:
                answer = self._receive(deadline)
                if answer is None:
                    raise refused or Unreachable(
                        "the daemon closed the connection without an answer",
                        remedy="see `journalctl -u hostlerd`",
                        data={"path": self.path},
                    )
                if "event" in answer or answer.get("id") not in {None, self._last}:
                    continue  # an event, or the answer to a call that was given up
                error = answer.get("error")
                if is_map(error):
                    raise from_wire(error)
                return answer.get("result")
        except TimeoutError:
            raise TimedOut(
                f"the daemon did not answer `{method}` within {limit:.3g} s",
                remedy="see `journalctl -u hostlerd`",
            ) from None

    def call_for_descriptor(
        self, method: str, params: Mapping[str, object] | None = None, *, limit: float = CALL_LIMIT
    ) -> tuple[object, int]:
        """As `call`, where a descriptor comes with the answer: the caller's to close, and not for children yet."""
        received = self._descriptors = []
        try:
            result = self.call(method, params, limit=limit)
            if len(received) != 1:
                raise _misfit(method)
            return result, received.pop()
        finally:
            self._descriptors = None
            for descriptor in received:
                os.close(descriptor)

    def subscribe(self, *, limit: float = CALL_LIMIT) -> Iterator[dict[str, object]]:
        """Events from now on, for as long as both sides are there. Raises Unreachable when the daemon goes away."""
        self.call("subscribe", limit=limit)
        return self._events()

    def _events(self) -> Iterator[dict[str, object]]:
        while (message := self._receive(None)) is not None:
            event = message.get("event")
            if is_map(event):
                yield event
        raise Unreachable("the daemon closed the connection", remedy=_START, data={"path": self.path})

    def _send(self, frame: bytes, deadline: float) -> HostlerError | None:
        """Send all. A peer that hung up may have said why before it did, so this is told and not raised."""
        try:
            self._wait_until(deadline)
            self._socket.sendall(frame)
        except (BrokenPipeError, ConnectionResetError) as error:
            return Unreachable(
                "the daemon hung up on the request",
                remedy="see `journalctl -u hostlerd`",
                data={"path": self.path, "errno": error.errno},
            )
        return None

    def _receive(self, deadline: float | None) -> dict[str, object] | None:
        """The next message; None when the daemon closed the connection. Raises TimeoutError, Unreachable."""
        while True:
            try:
                message = self._decoder.take()
            except BadInput as error:
                raise Unreachable(
                    f"what answers at {self.path} does not speak hostler's protocol: {error.message}",
                    remedy=f"check --socket and ${wire.SOCKET_VARIABLE}",
                    data={"path": self.path},
                ) from error
            if message is not None:
                return message
            self._wait_until(deadline)
            try:
                data = self._read()
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._decoder.feed(data)

    def _read(self) -> bytes:
        if self._descriptors is None:
            return self._socket.recv(_CHUNK)
        data, ancillary, _, _ = self._socket.recvmsg(
            _CHUNK, _socket.CMSG_SPACE(_DESCRIPTORS * 4), _socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, raw in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                self._descriptors += [
                    number for (number,) in _struct.iter_unpack("i", raw[: len(raw) // 4 * 4])
                ]
        return data

    def _wait_until(self, deadline: float | None) -> None:
        """Bound the next operation on the socket. Raises TimeoutError where nothing is left of the time."""
        if deadline is None:
            self._socket.settimeout(None)
            return
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)


def is_absent(error: HostlerError) -> bool:
    """Whether nobody serves the socket: not there (unit and socket stopped) or left behind by a daemon that died."""
    return isinstance(error, Unreachable) and error.data.get("errno") in {errno.ENOENT, errno.ECONNREFUSED}


def _connect(path: str, limit: float) -> _socket.socket:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        # A full backlog makes connect() wait. Python's own timeout makes the socket non-blocking, where the kernel says
        # EAGAIN at once; the kernel's send timeout bounds the wait (unix_stream_connect, sock_sndtimeo).
        whole = int(limit)
        timeout = _struct.pack("ll", whole, max(1, int((limit - whole) * 1e6)))
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, timeout)
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise _why(error, path, limit) from error
    except ValueError as error:  # a NUL in the path
        sock.close()
        raise BadInput(f"{path!r} is no path of a socket: {error}") from error
    return sock


def _why(error: OSError, path: str, limit: float) -> HostlerError:
    data: dict[str, object] = {"path": path, "errno": error.errno}
    match error.errno:
        case errno.ENOENT:
            return Unreachable(f"the daemon is not running: there is no {path}", remedy=_START, data=data)
        case errno.ECONNREFUSED:
            return Unreachable(
                f"the daemon is not running: nobody listens at {path}", remedy=_START, data=data
            )
        case errno.EACCES | errno.EPERM:
            return Unreachable(
                f"the daemon may not be asked: no permission to connect to {path}",
                remedy="run as a user who may write to the socket",
                data=data,
            )
        case errno.EAGAIN:
            return TimedOut(
                f"the daemon did not accept a connection within {limit:.3g} s",
                remedy="see `journalctl -u hostlerd`",
                data=data,
            )
        case None:
            return BadInput(f"{path!r} is no path of a socket: {error}", remedy="use a shorter path")
        case _:
            reason = os.strerror(error.errno)
            return Unreachable(f"the daemon cannot be reached at {path}: {reason}", remedy=_START, data=data)


def expect_map(result: object, method: str) -> dict[str, object]:
    """The result of `method`, a map. Raises Internal."""
    if not is_map(result):
        raise _misfit(method)
    return result


def expect_rows(result: object, method: str) -> list[dict[str, object]]:
    """The result of `method`, a list of maps, bare or under the method's name. Raises Internal."""
    found = result.get(method) if is_map(result) else result
    if not is_list(found):
        raise _misfit(method)
    return [expect_map(row, method) for row in found]


def _misfit(method: str) -> HostlerError:
    return Internal(
        f"the daemon's answer to `{method}` is not in the shape this client knows",
        remedy="daemon and client must be of one version: compare `hostler --version` and `hostlerd --version`",
    )
