"""When to look again for interrupts of guests: they come when the guest's driver wants them, and no event tells.

Rules: a few looks after a domain got devices, and after each event of libvirt, which may be a guest's restart.
"""

from __future__ import annotations

import math

AGAIN = (1.0, 3.0, 10.0, 30.0)
"""Seconds; scripts that people use sleep for 10 to 30."""


class Late:
    def __init__(self) -> None:
        self._guests: frozenset[str] = frozenset()
        self._since = -math.inf

    def begin(self, now: float) -> bool:
        """Something happened to a domain. True if there is one with devices whose interrupts may change."""
        if self._guests:
            self._since = now
        return bool(self._guests)

    def found(self, guests: frozenset[str], now: float) -> None:
        """After a pass: domains whose interrupts may come or change."""
        if guests - self._guests:
            self._since = now
        self._guests = guests

    def next_due(self, now: float) -> float:
        """Seconds until the next look; infinite where none is due."""
        left = (self._since + after - now for after in AGAIN if self._guests and self._since + after > now)
        return next(left, math.inf)
