"""Many events as few kicks: one when it has been quiet for a moment, and one now and then while it never is.

A USB device that is plugged in sends a dozen events, one that a guest resets as many again, and a bad cable does not
end. A look at the host waits until the storm is over, but not for ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from hostlerd.host import Kick

QUIET = 0.25
"""Seconds without an event after which there is a kick."""
MOST = 2.0
"""Seconds after which there is one in any case."""


async def kick_when_quiet(wait: Callable[[], Awaitable[object]], kick: Kick) -> None:
    """For ever: `wait` returns when there was an event, and may be cancelled."""
    while True:
        await wait()
        with trio.move_on_after(MOST):
            while True:
                with trio.move_on_after(QUIET) as quiet:
                    await wait()
                if quiet.cancelled_caught:
                    break
        kick()
