"""Moments as a person writes them."""

from __future__ import annotations

from time import localtime, strftime, time

from hostler.render.text import clean

_DAY = 86400


def moment(value: object) -> str:
    """Seconds since 1970 as local time, with the date where that is not within a day; a text as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return clean(value)
    try:
        local = localtime(value)
    except (OverflowError, OSError, ValueError):
        return clean(value)
    return strftime("%H:%M:%S" if abs(time() - value) < _DAY else "%Y-%m-%d %H:%M:%S", local)
