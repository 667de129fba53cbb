"""One connection to libvirt, from open to loss. The only module that imports libvirt.

Rules: everything here runs in threads that may be abandoned, but for `lose`. A connection is never closed
under a call: virConnectClose frees what the call works on, and the process with it; a call that is still at
it when the connection is given up closes it when it returns. Callbacks run on libvirt's own thread and do
nothing but wake the trio thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import libvirt as _untyped
import trio

from hostlerd.host import Kick

libvirt: Any = _untyped
"""libvirt-python has no type information."""

T = TypeVar("T")

log = logging.getLogger(__name__)

EVENTS = ("REBOOT", "DEVICE_ADDED", "DEVICE_REMOVED", "TUNABLE", "METADATA_CHANGE")
LOST = ("an error", "end of file", "no answer to keepalive", "closed by us")
"""By number of virConnectCloseReason."""


class Gone(Exception):
    """The connection failed, not the call. `number`: the system's error number where there is one, else 0."""

    def __init__(self, text: str, number: int = 0) -> None:
        super().__init__(text)
        self.number = number


class Link:
    def __init__(self, changed: Kick, keepalive: tuple[int, int]) -> None:
        self.one_call = trio.CapacityLimiter(1)
        self.lost = trio.Event()
        self.reason = ""
        self._changed, self._keepalive = changed, keepalive
        self._token = trio.lowlevel.current_trio_token()
        self._connection: Any = None
        self._callbacks: list[int] = []
        self._lock = threading.Lock()
        self._busy = self._unwanted = False

    def lose(self, reason: str) -> None:
        """In the trio thread."""
        if not self.lost.is_set():
            self.reason = reason
            self.lost.set()

    def open(self, uri: str) -> None:
        """Raises Gone. Where `close` was called meanwhile, it is closed again."""
        with self._in_use():
            try:
                self._open(uri)
            except libvirt.libvirtError as error:
                self._unwanted = True
                raise Gone(str(error), error.get_int1()) from error
            except Gone:
                self._unwanted = True
                raise

    def call(self, fn: Callable[[Any], T]) -> T:
        """What `fn` makes of the connection. Raises Gone, or libvirtError when libvirt itself said no."""
        with self._in_use():
            try:
                return fn(self._connection)
            except libvirt.libvirtError as error:
                if not self._is_alive():
                    raise Gone(str(error), error.get_int1()) from error
                raise

    def close(self) -> None:
        """Now, or when the call that is under way returns."""
        with self._lock:
            self._unwanted = True
            if self._busy:
                return
        self._free()

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        with self._lock:
            if self._unwanted:
                raise Gone("the connection was closed")
            self._busy = True
        try:
            yield
        finally:
            if self._left():
                self._free()

    def _left(self) -> bool:
        """A call has returned; True if nobody wants the connection any more."""
        with self._lock:
            self._busy = False
            return self._unwanted

    def _open(self, uri: str) -> None:
        """What could not be subscribed to is done without, but for the life of domains."""
        self._connection = libvirt.open(uri)
        self._connection.registerCloseCallback(self._on_close, None)
        with unsupported_is_fine():
            self._connection.setKeepAlive(*self._keepalive)
        self._subscribe("LIFECYCLE")
        for name in EVENTS:
            with unsupported_is_fine():
                self._subscribe(name)
        if not self._is_alive():  # lost before there was a callback to tell of it
            raise Gone("it was lost at once")

    def _subscribe(self, name: str) -> None:
        number = getattr(libvirt, f"VIR_DOMAIN_EVENT_ID_{name}")
        self._callbacks.append(self._connection.domainEventRegisterAny(None, number, self._on_event, None))

    def _is_alive(self) -> bool:
        try:
            return bool(self._connection.isAlive())
        except libvirt.libvirtError:
            return False

    def _free(self) -> None:
        """Blocks while libvirtd is stalled. Only without its callbacks is a connection ever freed."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        for number in self._callbacks:
            with contextlib.suppress(libvirt.libvirtError):
                connection.domainEventDeregisterAny(number)
        for end in (connection.unregisterCloseCallback, connection.close):
            with contextlib.suppress(libvirt.libvirtError):
                end()

    def _on_event(self, *_: object) -> None:
        self._wake(self._changed)

    def _on_close(self, _connection: object, reason: int, _opaque: object) -> None:
        words = LOST[reason] if 0 <= reason < len(LOST) else f"reason {reason}"
        self._wake(lambda: self.lose(words))

    def _wake(self, fn: Callable[[], None]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(fn, idempotent=True)


@contextlib.contextmanager
def _except(*codes: int) -> Iterator[None]:
    """Errors with these codes are none."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() not in codes:
            raise


def unsupported_is_fine() -> contextlib.AbstractContextManager[None]:
    return _except(libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG)


def no_domain_is_fine() -> contextlib.AbstractContextManager[None]:
    return _except(libvirt.VIR_ERR_NO_DOMAIN)


_loop_lock = threading.Lock()
_loop: list[threading.Thread] = []


def start_event_loop() -> None:
    """Once in a process, before the first open(): without it there is neither keepalive nor an event.

    libvirt's default loop in a thread of its own: it is process-wide and cannot be unregistered, so it must not hang on
    one run of trio.
    """
    with _loop_lock:
        if not _loop:
            # Otherwise every error is printed to standard error as well as raised.
            libvirt.registerErrorHandler(_quiet, None)
            libvirt.virEventRegisterDefaultImpl()
            _loop.append(threading.Thread(target=_run_events, name="libvirt-events", daemon=True))
            _loop[0].start()


def _quiet(_context: object, _error: object) -> None:
    pass


def _run_events() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            log.exception("libvirt's event loop")
            time.sleep(1)
