"""libvirt, for one URI. The only module that imports it.

Rules, each for a measured trap:
- One call at a time on a connection: when libvirtd stalls, keepalive fails the first call only and all others
  hang for ever; libvirt 9.0 even crashes the process. A call that is given up keeps its turn until it returns.
- Every call blocks while a qemu hook of any domain runs, even listing domains: each is in a thread that may be
  abandoned, and has a limit that a hook fits into. libvirt.open() on a stopped libvirtd has no limit of its own.
- The event loop is libvirt's default one in a thread: it is process-wide, cannot be unregistered, and must be
  there before the first open. Callbacks run on that thread and do nothing but wake ours.
- A connection is lost, never repaired: `wait_lost`, then `connect` again and look at everything
  (hostlerd.sources.libvirt).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import libvirt as _untyped
import trio

from hostler.errors import HostFailed, HostlerError, TimedOut, Unreachable, Unsupported
from hostlerd.host import Kick
from hostlerd.host.threads import in_thread
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.domains import Definition, Running

libvirt: Any = _untyped
"""libvirt-python has no type information."""

T = TypeVar("T")

log = logging.getLogger(__name__)

RUN = "/run/libvirt"
CALL_LIMIT = 60.0
OPEN_LIMIT = 20.0
CLOSE_LIMIT = 2.0
KEEPALIVE = (5, 3)
"""Seconds between two pings, and how many go unanswered before the connection counts as lost."""

EVENTS = ("REBOOT", "DEVICE_ADDED", "DEVICE_REMOVED", "TUNABLE", "METADATA_CHANGE")
STATES = ("no state", "running", "blocked", "paused", "shutdown", "shut off", "crashed", "pmsuspended")
"""By number of virDomainState, in virsh's words."""
LOST = ("an error", "end of file", "no answer to keepalive", "we closed it")
"""By number of virConnectCloseReason."""


class Libvirt:
    """The host.Hypervisor behind one URI. `parse` makes a Definition of domain XML and raises HostlerError."""

    def __init__(
        self,
        uri: str,
        *,
        parse: Callable[[str], Definition],
        call_limit: float = CALL_LIMIT,
        open_limit: float = OPEN_LIMIT,
        keepalive: tuple[int, int] = KEEPALIVE,
    ) -> None:
        self.uri = uri
        self._parse = parse
        self._call_limit, self._open_limit, self._keepalive = call_limit, open_limit, keepalive
        self._one_opening = trio.CapacityLimiter(1)
        self._link: _Link | None = None

    @property
    def sockets(self) -> tuple[str, ...]:
        """The paths one of which must be there before `connect` can succeed; empty where that is not known."""
        return socket_paths(self.uri)

    async def connect(self, changed: Kick) -> None:
        """Open, subscribe, and call `changed` in the trio thread at every event from then on.

        Raises Unreachable (data: errno where no one listens), TimedOut or HostFailed.
        """
        await self.aclose()
        start_event_loop()
        async with self._one_opening:
            pass  # an opening that was given up still hangs: another one would, too
        link = _Link(changed, self._keepalive)
        opening = _Opening(self.uri, link)
        try:
            await in_thread(opening.run, limit=self._open_limit, limiter=self._one_opening)
        except libvirt.libvirtError as error:
            raise self._unreachable(error) from error
        except BaseException:
            opening.give_up()
            raise
        self._link = link

    async def wait_lost(self) -> str:
        """Returns, with the reason, when the connection is gone; it is closed then. At once where there is none."""
        link = self._link
        if link is None:
            return "never connected"
        await link.lost.wait()
        await self.aclose()
        return link.reason

    async def aclose(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.lose("closed")
            with trio.CancelScope(shield=True), contextlib.suppress(TimedOut):
                await in_thread(link.close, limit=CLOSE_LIMIT)

    async def running(self) -> tuple[Running, ...]:
        """See host.Hypervisor. Takes as long as a hook that runs; a domain that ends meanwhile is left out."""
        texts = await self._call(_running, what="listing domains")
        return tuple(
            Running(
                live=self._parsed(name, live),
                definition=None if inactive is None else self._parsed(name, inactive),
                state=state,
            )
            for name, state, live, inactive in texts
        )

    async def inactive(self) -> tuple[Definition, ...]:
        found: list[Definition] = []
        for name, text in await self._call(_inactive, what="listing domains"):
            try:
                found.append(self._parsed(name, text))
            except HostFailed as error:
                log.warning("%s", error.sentence, extra={"domain": name})
        return tuple(found)

    async def pin_vcpu(self, uuid: str, vcpu: int, cpus: CpuSet) -> None:
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE
        await self._pin(uuid, cpus, lambda domain, cpu_map: domain.pinVcpuFlags(vcpu, cpu_map, live))

    async def pin_emulator(self, uuid: str, cpus: CpuSet) -> None:
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE
        await self._pin(uuid, cpus, lambda domain, cpu_map: domain.pinEmulator(cpu_map, live))

    async def pin_iothread(self, uuid: str, iothread: int, cpus: CpuSet) -> None:
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE
        await self._pin(uuid, cpus, lambda domain, cpu_map: domain.pinIOThread(iothread, cpu_map, live))

    async def _pin(self, uuid: str, cpus: CpuSet, pin: Callable[[Any, tuple[bool, ...]], object]) -> None:
        def call(connection: Any) -> None:
            domain = connection.lookupByUUIDString(uuid)
            pin(domain, cpu_map(connection, cpus))

        await self._call(call, what=f"pinning domain {uuid}", domain=uuid)

    def _parsed(self, name: str, text: str) -> Definition:
        try:
            return self._parse(text)
        except HostlerError as error:
            raise HostFailed(
                f"libvirt describes {name} in a way that is not understood: {error.message}",
                data={"object": name},
            ) from error

    async def _call(self, fn: Callable[[Any], T], *, what: str, domain: str | None = None) -> T:
        link = self._link
        if link is None or link.lost.is_set():
            raise self._unreachable(None)
        try:
            return await in_thread(
                fn, link.connection, limit=self._call_limit, limiter=link.one_call, what=f"libvirt: {what}"
            )
        except libvirt.libvirtError as error:
            if link.lost.is_set() or not link.connection.isAlive():
                raise self._unreachable(error) from error
            raise _as_ours(error, what, domain) from error

    def _unreachable(self, error: Any) -> Unreachable:
        data: dict[str, object] = {"object": self.uri}
        if error is not None:
            data["errno"] = error.get_int1()
        reason = f": {error}" if error is not None else ", there is no connection"
        remedy = "is libvirtd (or virtqemud) running?"
        return Unreachable(f"libvirt cannot be reached at {self.uri}{reason}", remedy=remedy, data=data)


class _Link:
    """One connection, from open to loss."""

    def __init__(self, changed: Kick, keepalive: tuple[int, int]) -> None:
        self.one_call = trio.CapacityLimiter(1)
        self.lost = trio.Event()
        self.reason = ""
        self.connection: Any = None
        self._callbacks: list[int] = []
        self._changed, self._keepalive = changed, keepalive
        self._token = trio.lowlevel.current_trio_token()

    def lose(self, reason: str) -> None:
        if not self.lost.is_set():
            self.reason = reason
            self.lost.set()

    def open(self, uri: str) -> None:
        """Blocks. What could not be subscribed to is done without, but for the life of domains."""
        self.connection = libvirt.open(uri)
        self.connection.registerCloseCallback(self._on_close, None)
        with _unsupported_is_fine():
            self.connection.setKeepAlive(*self._keepalive)
        self._subscribe("LIFECYCLE")
        for name in EVENTS:
            with _unsupported_is_fine():
                self._subscribe(name)

    def _subscribe(self, name: str) -> None:
        number = getattr(libvirt, f"VIR_DOMAIN_EVENT_ID_{name}")
        self._callbacks.append(self.connection.domainEventRegisterAny(None, number, self._on_event, None))

    def close(self) -> None:
        """Blocks while libvirtd is stalled. Only without its callbacks is a connection ever freed."""
        connection = self.connection
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
        """On libvirt's thread: nothing but this."""
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(fn, idempotent=True)


class _Opening:
    """An open() that may be given up: then whichever thread has it at last closes it again."""

    def __init__(self, uri: str, link: _Link) -> None:
        self._uri, self._link = uri, link
        self._lock = threading.Lock()
        self._given_up = self._done = False

    def run(self) -> None:
        try:
            self._link.open(self._uri)
        except libvirt.libvirtError:
            self._link.close()
            raise
        with self._lock:
            self._done = True
            unwanted = self._given_up
        if unwanted:
            self._link.close()

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True
            late = self._done
        if late:  # closing may block, and this is the trio thread
            threading.Thread(target=self._link.close, name="libvirt-close", daemon=True).start()


def _running(connection: Any) -> list[tuple[str, str, str, str | None]]:
    """Name, state, live XML and inactive XML of each active domain."""
    found: list[tuple[str, str, str, str | None]] = []
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        with _gone_is_fine():
            live = domain.XMLDesc(0)
            persistent = domain.isPersistent()
            inactive = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) if persistent else None
            state = domain.state()[0]
            # Asked last: of a domain that has stopped since, XMLDesc(0) gave the inactive XML.
            if domain.isActive():
                found.append(
                    (domain.name(), STATES[state] if state < len(STATES) else "no state", live, inactive)
                )
    return found


def _inactive(connection: Any) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE):
        with _gone_is_fine():
            found.append((domain.name(), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))
    return found


def cpu_map(connection: Any, cpus: CpuSet) -> tuple[bool, ...]:
    """One bool for each CPU of the host; libvirt-python writes past its buffer when there are more."""
    count: int = connection.getCPUMap()[0]
    if not cpus or max(cpus) >= count:
        raise HostFailed(f"libvirt knows CPUs 0 to {count - 1}, not {sorted(cpus)}")
    return tuple(cpu in cpus for cpu in range(count))


def _as_ours(error: Any, what: str, domain: str | None) -> HostlerError:
    code = error.get_error_code()
    kind: type[HostlerError] = HostFailed
    if code in (libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_ERR_AGENT_UNRESPONSIVE):
        kind = TimedOut
    elif code == libvirt.VIR_ERR_NO_SUPPORT:
        kind = Unsupported
    data: dict[str, object] = {"errno": code}
    if domain is not None:
        data["object"] = domain
    return kind(f"libvirt, {what}: {error}", data=data)


@contextlib.contextmanager
def _except(*codes: int) -> Iterator[None]:
    """Errors with these codes are none."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() not in codes:
            raise


def _unsupported_is_fine() -> contextlib.AbstractContextManager[None]:
    return _except(libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG)


def _gone_is_fine() -> contextlib.AbstractContextManager[None]:
    return _except(libvirt.VIR_ERR_NO_DOMAIN)


def socket_paths(uri: str) -> tuple[str, ...]:
    """Where a local libvirtd, or the driver's own daemon, listens (libvirt.org/uri.html, libvirt.org/daemons.html)."""
    parts = urlsplit(uri)
    driver, _, transport = parts.scheme.partition("+")
    if parts.netloc or transport not in ("", "unix"):
        return ()
    given = parse_qs(parts.query).get("socket")
    if given:
        return (given[-1],)
    if driver == "test" or parts.path != "/system":
        return ()
    return (f"{RUN}/virt{driver}d-sock", f"{RUN}/libvirt-sock")


_loop_lock = threading.Lock()
_loop: list[threading.Thread] = []


def start_event_loop() -> None:
    """Once in a process, before the first open()."""
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
