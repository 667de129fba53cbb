"""How a lane is woken. Carries nothing on purpose."""

from __future__ import annotations

import trio


class Latch:
    """Any number of kicks before the loop wakes is one wake-up; a kick during a pass is one more pass."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def kick(self) -> None:
        self._event.set()

    def clear(self) -> None:
        """What was kicked so far has been seen to."""
        self._event = trio.Event()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()
