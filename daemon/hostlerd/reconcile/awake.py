"""Whether the host may sleep, and holding still while it does.

Rules: a step that has begun is never cut; the next one waits until the host is awake. What a pass found out before that
counts for nothing after it: then everything is looked at anew, and each card that is ours or a domain's is asked
whether it still answers.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

log = logging.getLogger(__name__)


class Awake:
    """Implements sources.sleep.Sleeper. `kick` has both lanes look; `unchecked`: no card was asked since it slept.

    `silent`: cards of domains that did not answer then.
    """

    def __init__(self, kick: Callable[[], None]) -> None:
        self._kick = kick
        self._reason = ""
        self._other_reason = trio.Event()
        self._passes = 0
        self._no_pass = trio.Event()
        self._awake = trio.Event()
        self._awake.set()
        self.unchecked = False
        self.silent: frozenset[str] = frozenset()
        self.refused_with = ""

    # Told by the lanes

    @property
    def still(self) -> bool:
        """The host is about to sleep, or sleeps: no step is begun."""
        return not self._awake.is_set()

    def because(self, reason: str) -> None:
        """Why the host must not sleep; empty: it may."""
        if reason != self._reason:
            self._reason = reason
            self._other_reason.set()
            self._other_reason = trio.Event()

    @asynccontextmanager
    async def one_pass(self, *, waited_for: bool) -> AsyncIterator[None]:
        """Begins when the host is awake.

        `waited_for`: before it sleeps. A call to libvirt may wait for a hook of ours, which waits until it is awake.
        """
        await self._awake.wait()
        self._passes += waited_for
        try:
            yield
        finally:
            self._passes -= waited_for
            if not self._passes:
                self._no_pass.set()
                self._no_pass = trio.Event()

    # Told by whoever hears of the host's sleep

    async def wait_reason(self, previous: str) -> str:
        while self._reason == previous:
            await self._other_reason.wait()
        return self._reason

    def refused(self, why: str) -> None:
        self.refused_with = why

    async def hold_still(self, limit: float) -> bool:
        if self._reason:
            log.warning("the host is made to sleep although %s", self._reason)
        if self._awake.is_set():
            self._awake = trio.Event()
        with trio.move_on_after(limit):
            while self._passes:
                await self._no_pass.wait()
        return not self._passes

    def go_on(self) -> None:
        self.unchecked = self.unchecked or self.still
        self._awake.set()
        self._kick()
