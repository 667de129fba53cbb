"""What works, and could be better: told in status, and of a domain among its notes. It refuses nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """`object`: a domain's name. `remedy`: what a person can do."""

    object: str
    reason: str
    remedy: str
