"""The `isolation` table of a domain: what is to be otherwise than its profile has it."""

from __future__ import annotations

import re
from typing import Any, get_args

from hostlerd.model.profile import KEEP, Partition, VfioInterrupts, X3dMode
from hostlerd.settings.places import ISOLATION, PLACES
from hostlerd.toml_table import Table

_CHOICES = {
    "partition": get_args(Partition),
    "vfio_interrupts": get_args(VfioInterrupts),
    "x3d_mode": get_args(X3dMode),
}
_SWITCHES = ("slices", "interrupts", "workqueues", "kthreads", "rps", "watchdog", "timer_migration")
_NUMBERS = {
    "stat_interval": (1, 3600),
    "resume_latency": (0, 1_000_000),
    "halt_poll_ns": (0, 10_000_000),
    "split_lock_mitigate": (0, 1),
    "numa_balancing": (0, 1),
    "ksm": (0, 2),
}
_WORD = re.compile(r"[a-z_]{1,32}")


def read_isolation(table: Table | None) -> dict[str, Any] | None:
    """The keys of Isolation that are set here; None where there is no such table."""
    if table is None:
        return None
    table.allow(ISOLATION, PLACES)
    found: dict[str, Any] = {key: table.choice(key, choices) for key, choices in _CHOICES.items()}
    found |= {key: table.get(key, bool) for key in _SWITCHES}
    found |= {key: table.text(key, _word) for key in ("governor", "epp")}
    found |= {key: _number(table, key, *limits) for key, limits in _NUMBERS.items()}
    return {key: value for key, value in found.items() if value is not None}


def _number(table: Table, key: str, least: int, most: int) -> int | None:
    if table.values.get(key) == "keep":
        return KEEP
    number = table.get(key, int)
    if number is not None and not least <= number <= most:
        table.under(key).fail(f"{key} cannot be {number}", remedy=f'{least} to {most}, or "keep"')
    return number


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ValueError(f'"{text}" is no word of the kernel\'s (such as performance)')
    return text
