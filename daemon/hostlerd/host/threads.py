"""Blocking calls in threads that may be abandoned.

Rules: a time limit does not stop a thread. The caller goes on, the thread ends when its call ends, and its
result is dropped; so nothing may run here that must not happen late. Writes to the kernel are host.writer's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import trio

from hostler.errors import TimedOut

T = TypeVar("T")

# trio 0.23 renamed the option; Debian 12 has 0.22.
_ABANDON: dict[str, Any] = {
    name: True
    for name in ("abandon_on_cancel", "cancellable")
    if name in inspect.signature(trio.to_thread.run_sync).parameters
}
if len(_ABANDON) == 2:
    del _ABANDON["cancellable"]


async def in_thread(
    fn: Callable[..., T],
    *args: object,
    limit: float,
    what: str = "",
    limiter: trio.CapacityLimiter | None = None,
) -> T:
    """What `fn` returns or raises, or hostler.errors.TimedOut after `limit` seconds.

    Waiting for the limiter counts. An abandoned thread keeps its token until it ends: with one token, later callers
    wait for it, each for its own limit.
    """
    try:
        with trio.fail_after(limit):
            return await trio.to_thread.run_sync(partial(fn, *args), limiter=limiter, **_ABANDON)
    except trio.TooSlowError:
        raise TimedOut(f"{what or 'a call'} did not return within {limit:g} s") from None
