"""When to look again at devices that would be moved and that somebody has open: nothing tells when they let go.

Rules: a number of looks, counted from when a device was first found open and not from the last pass: events come in
crowds, and a crowd must not use them up while a guest is still closing its files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

AGAIN = (1.0, 4.0, 14.0, 44.0)
"""Seconds after a device was found open; then the next event has to do."""


class Looks:
    def __init__(self) -> None:
        self._open: frozenset[str] = frozenset()
        self._since = -math.inf

    def found(self, devices: Iterable[str], now: float) -> None:
        """After a pass: what is open. One that was not before begins the looks anew."""
        found = frozenset(devices)
        if found - self._open:
            self._since = now
        self._open = found

    def next_due(self, now: float) -> float:
        """Seconds until the next look; infinite where none is due."""
        left = (self._since + after - now for after in AGAIN if self._open and self._since + after > now)
        return next(left, math.inf)
