"""libvirt, for one URI.

Rules, each for a measured trap:
- One call at a time on a connection: when libvirtd stalls, keepalive fails the first call only and all others
  hang for ever; libvirt 9.0 even crashes the process. A call that is given up keeps its turn until it returns.
- Every call blocks while a qemu hook of any domain runs, even listing domains: each is in a thread that may be
  abandoned, and has a limit that a hook fits into. libvirt.open() on a stopped libvirtd has no limit of its own.
- A connection is lost, never repaired: `wait_lost`, then `connect` again and look at everything
  (hostlerd.sources.libvirt).
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import trio

from hostler.errors import HostFailed, HostlerError, TimedOut, Unreachable
from hostlerd.host import Kick
from hostlerd.host.libvirt import calls, usb
from hostlerd.host.libvirt.link import Gone, Link, start_event_loop
from hostlerd.host.threads import in_thread
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.domains import Definition, Running
from hostlerd.model.usb import UsbDevice

T = TypeVar("T")

log = logging.getLogger(__name__)

RUN = "/run/libvirt"
CALL_LIMIT = 60.0
OPEN_LIMIT = 20.0
CLOSE_LIMIT = 2.0
KEEPALIVE = (5, 3)
"""Seconds between two pings, and how many go unanswered before the connection counts as lost."""


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
        self._link: Link | None = None

    @property
    def sockets(self) -> tuple[str, ...]:
        """The paths one of which must be there before `connect` can succeed; empty where that is not known."""
        return socket_paths(self.uri)

    async def connect(self, changed: Kick) -> None:
        """Open, subscribe, and call `changed` in the trio thread at every event from then on.

        Raises Unreachable (data: errno where the system gave one) and TimedOut.
        """
        await self.aclose()
        start_event_loop()
        async with self._one_opening:
            pass  # an opening that was given up still hangs: another one would, too
        link = Link(changed, self._keepalive)
        try:
            await in_thread(
                link.open,
                self.uri,
                limit=self._open_limit,
                limiter=self._one_opening,
                what=f"opening {self.uri}",
            )
        except Gone as error:
            raise self._unreachable(error) from error
        except BaseException:
            # Now or when open() returns. It may block, so it is not for this thread, and nobody waits for it.
            threading.Thread(target=link.close, name="libvirt-close", daemon=True).start()
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
        """Bounded, also where libvirtd is stalled; not given up when cancelled."""
        link, self._link = self._link, None
        if link is not None:
            link.lose("closed by us")
            with trio.CancelScope(shield=True), contextlib.suppress(TimedOut):
                await in_thread(link.close, limit=CLOSE_LIMIT)

    async def running(self) -> tuple[Running, ...]:
        """See host.Hypervisor. Takes as long as a hook that runs; a domain that ends meanwhile is left out."""
        return tuple(
            Running(
                live=self._parsed(name, live),
                definition=None if inactive is None else self._parsed(name, inactive),
                state=state,
            )
            for name, state, live, inactive in await self._call(calls.running, what="listing domains")
        )

    async def inactive(self) -> tuple[Definition, ...]:
        """See host.Hypervisor. One that is not understood is left out: nothing is done to it."""
        found: list[Definition] = []
        for name, text in await self._call(calls.inactive, what="listing domains"):
            try:
                found.append(self._parsed(name, text))
            except HostFailed as error:
                log.warning("%s", error.sentence, extra={"domain": name})
        return tuple(found)

    async def version(self) -> int:
        return await self._call(calls.version, what="asking for its version")

    async def pin_vcpu(self, uuid: str, vcpu: int, cpus: CpuSet) -> None:
        await self._pin(uuid, cpus, calls.pin_vcpu(vcpu), f"pinning vCPU {vcpu}")

    async def pin_emulator(self, uuid: str, cpus: CpuSet) -> None:
        await self._pin(uuid, cpus, calls.pin_emulator(), "pinning the emulator")

    async def pin_iothread(self, uuid: str, iothread: int, cpus: CpuSet) -> None:
        await self._pin(uuid, cpus, calls.pin_iothread(iothread), f"pinning iothread {iothread}")

    async def definition_xml(self, uuid: str) -> str:
        return await self._call(
            lambda connection: calls.definition_xml(connection, uuid),
            what="reading a definition",
            domain=uuid,
        )

    async def redefine(self, uuid: str, xml: str) -> None:
        await self._call(
            lambda connection: calls.redefine(connection, uuid, xml),
            what="changing a definition",
            domain=uuid,
        )

    async def plug(self, uuid: str, device: str) -> None:
        await self._call(
            lambda connection: calls.plug(connection, uuid, device), what="plugging in a device", domain=uuid
        )

    async def unplug(self, uuid: str, device: str) -> None:
        await self._call(
            lambda connection: calls.unplug(connection, uuid, device), what="unplugging a device", domain=uuid
        )

    async def attach_usb(self, uuid: str, device: UsbDevice) -> Definition:
        what = f"attaching {device.label}"
        return self._parsed(
            uuid, await self._call(lambda c: usb.attach(c, uuid, device), what=what, domain=uuid)
        )

    async def detach_usb(self, uuid: str, device: UsbDevice) -> Definition:
        what = f"detaching {device.label}"
        return self._parsed(
            uuid, await self._call(lambda c: usb.detach(c, uuid, device), what=what, domain=uuid)
        )

    async def _pin(self, uuid: str, cpus: CpuSet, how: calls.Pin, what: str) -> None:
        await self._call(lambda connection: calls.pin(connection, uuid, cpus, how), what=what, domain=uuid)

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
            raise self._unreachable(Gone("there is no connection"))
        try:
            return await in_thread(
                lambda: link.call(fn), limit=self._call_limit, limiter=link.one_call, what=f"libvirt, {what},"
            )
        except Gone as error:
            raise self._unreachable(error) from error
        except calls.LibvirtError as error:
            raise calls.as_ours(error, what, domain) from error

    def _unreachable(self, error: Gone) -> Unreachable:
        return Unreachable(
            f"libvirt cannot be reached at {self.uri}: {error}",
            remedy="is libvirtd (or virtqemud) running?",
            data={"object": self.uri, "errno": error.number},
        )


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
