"""Who may do what: one table for both faces; what is not in it may nobody.

Rules: what changes nothing is free to every user of this host and asks nobody. What changes something is free to root
and to the user who runs the daemon, again without asking anybody: libvirt's hook works while bus and polkit are away.
Everybody else is polkit's to judge, within a limit, and a polkit that is away means no.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

import trio

from hostler.errors import BadInput, NotAuthorised, TimedOut, Unreachable
from hostler.wire import SIMULATE_METHOD
from hostlerd.api import Peer
from hostlerd.host.bus import BUS, BUS_PATH, STANDARD_ERROR, Bus, CallFailed, Variant

READ = "org.hostler1.read"
PLAN = "org.hostler1.plan"
HANDOFF = "org.hostler1.handoff"
CLAIM_CPUS = "org.hostler1.claim-cpus"
CHANGE_POLICY = "org.hostler1.change-policy"
FREE = frozenset({READ, PLAN})

ACTIONS = {
    "hello": READ,
    "status": READ,
    "devices": READ,
    "cpus": READ,
    "domains": READ,
    "doctor": READ,
    "subscribe": READ,
    "plan": PLAN,
    "prepare": HANDOFF,
    "release": HANDOFF,
    "hook": HANDOFF,
    "retry": HANDOFF,
    "gpu": HANDOFF,
    "isolate": CLAIM_CPUS,
    "pins": HANDOFF,
    "reload": CHANGE_POLICY,
}
"""Method of the service to polkit action (dbus/org.hostler1.policy)."""

LIMIT = 25.0
"""Seconds polkit may take, with a person typing a password."""

_POLKIT = "org.freedesktop.PolicyKit1"
_AUTHORITY = ("/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority")
_ASK_THE_USER = 1
_AWAY = frozenset(
    STANDARD_ERROR + name
    for name in (
        "ServiceUnknown",
        "NameHasNoOwner",
        "Spawn.ServiceNotFound",
        "Spawn.ChildExited",
        "Spawn.Failed",
        "NoReply",
        "TimedOut",
        "Disconnected",
    )
)
_AS_ROOT = "run it as root"


class Authorizer:
    """Answers whether a peer may call a method."""

    def __init__(self, bus: Bus | None, *, simulated: bool = False) -> None:
        """`bus`: None where there is none (a simulated daemon)."""
        self._bus = bus
        self._simulated = simulated
        self._trusted = frozenset({0, os.geteuid()})
        self._checks = itertools.count(1)

    async def check(self, peer: Peer, method: str) -> None:
        """Return if `peer` may call `method`.

        Raises BadInput (no such method), NotAuthorised, TimedOut (nobody answered polkit's question).
        """
        if method == SIMULATE_METHOD and self._simulated:
            action = HANDOFF
        elif method in ACTIONS:
            action = ACTIONS[method]
        else:
            raise BadInput(f"there is no method {method!r}", data={"method": method})
        if action in FREE or await self._user(peer, action) in self._trusted:
            return
        await self._ask_polkit(peer, method, action)

    async def _user(self, peer: Peer, action: str) -> int | None:
        if peer.uid is not None or peer.bus_name is None or self._bus is None:
            return peer.uid
        try:
            (uid,) = await self._bus.call(BUS, BUS_PATH, BUS, "GetConnectionUnixUser", "s", peer.bus_name)
        except (CallFailed, TimedOut, Unreachable) as error:
            raise _denied(action, "the bus does not know who calls", "call again") from error
        return int(uid)

    async def _ask_polkit(self, peer: Peer, method: str, action: str) -> None:
        if self._bus is None:
            raise _denied(action, f"{method} is for the user who runs this daemon, and for root", _AS_ROOT)
        subject, fds = _subject(peer, action)
        check = f"hostler-{os.getpid()}-{next(self._checks)}"
        flags = _ASK_THE_USER if peer.interactive else 0
        try:
            ((allowed, challenge, _),) = await self._bus.call(
                _POLKIT,
                *_AUTHORITY,
                "CheckAuthorization",
                "(sa{sv})sa{ss}us",
                subject,
                action,
                {},
                flags,
                check,
                limit=LIMIT,
                fds=fds,
            )
        except CallFailed as failed:
            why = "polkit, which would decide, is not there" if failed.name in _AWAY else failed.message
            raise _denied(action, f"{method} needs the right {action}: {why}", _AS_ROOT) from failed
        except Unreachable as error:
            raise _denied(
                action,
                f"{method} needs the right {action}, and without the bus polkit cannot be asked",
                _AS_ROOT,
            ) from error
        except TimedOut as error:
            self._cancel(check)
            raise TimedOut(
                f"polkit did not decide on {action} within {LIMIT:g} s", remedy="call again, or " + _AS_ROOT
            ) from error
        except trio.Cancelled:
            self._cancel(check)
            raise
        if not allowed:
            remedy = f"{_AS_ROOT}, or where a polkit agent can ask for a password" if challenge else _AS_ROOT
            raise _denied(
                action, f"{method} needs the right {action}, which polkit does not give you", remedy
            )

    def _cancel(self, check: str) -> None:
        """Take the question off the user's screen."""
        if self._bus is not None:
            self._bus.tell(_POLKIT, *_AUTHORITY, "CancelCheckAuthorization", "s", check)


def _denied(action: str, message: str, remedy: str) -> NotAuthorised:
    return NotAuthorised(message, remedy=remedy, data={"action": action})


def _subject(peer: Peer, action: str) -> tuple[tuple[str, dict[str, Variant]], tuple[int, ...]]:
    """polkit's subject for a peer, and the descriptors it refers to.

    polkit takes `pidfd` from version 124 on (and needs `uid` with it); an older one overlooks it and takes the rest,
    where pid and start time together name one process even when the pid is used again (polkitsubject.c,
    polkit_subject_new_for_gvariant_invocation).
    """
    if peer.bus_name is not None:
        return ("system-bus-name", {"name": Variant("s", peer.bus_name)}), ()
    if peer.pid is None or peer.uid is None or peer.start_time is None:
        raise _denied(action, "it is not known for certain which process calls", "call again, or " + _AS_ROOT)
    details: dict[str, Any] = {
        "pid": Variant("u", peer.pid),
        "start-time": Variant("t", peer.start_time),
        "uid": Variant("i", peer.uid),
    }
    if peer.pidfd is None:
        return ("unix-process", details), ()
    return ("unix-process", details | {"pidfd": Variant("h", 0)}), (peer.pidfd,)
