"""What a `[[device]]` section says of the card itself: its VFIO driver, its reset, its BARs, and when it is dead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from hostlerd.model.settings import RESETS, DevicePolicy
from hostlerd.settings.words import driver
from hostlerd.toml_table import Table, nearest

_SIZE = re.compile(r"(\d+) ?([MGT])(?:iB|B)?", re.IGNORECASE)
_MIB = {"M": 1, "G": 1 << 10, "T": 1 << 20}
BARS = ("0", "1", "2", "3", "4", "5")
LARGEST = 1 << 23
"""MiB: the sizes of a resizable BAR end at 8 EiB, those that a host has room for long before."""


def read_card(table: Table) -> dict[str, Any]:
    """The keys that are set."""
    hints = get_type_hints(DevicePolicy)
    found = {
        "vfio_driver": table.text("vfio_driver", _driver),
        "reset": _reset(table),
        "bar": _bar(table),
        "recover": table.choice("recover", get_args(hints["recover"])),
    }
    return {key: value for key, value in found.items() if value is not None}


def _driver(text: str) -> str:
    return driver(text, such_as="auto, vfio-pci, or such as mlx5_vfio_pci")


def _reset(table: Table) -> tuple[str, ...] | None:
    """One method, or several in the order in which they are tried."""
    if isinstance(table.values.get("reset"), list):
        methods = table.texts("reset", _method)
        if methods == ():
            table.under("reset").fail("reset lists no method", remedy='leave it out, or write reset = "keep"')
        return methods
    text = table.text("reset", lambda word: word if word == "keep" else _method(word))
    return None if text is None else () if text == "keep" else (text,)


def _method(text: str) -> str:
    if text not in RESETS:
        close = nearest(text, RESETS)
        meant = f"; did you mean {close}?" if close else ""
        raise ValueError(f'"{text}" is no way to reset a device (keep, {", ".join(RESETS)}){meant}')
    return text


def _bar(table: Table) -> str | Mapping[int, int] | None:
    """keep, max, or BAR to size in MiB."""
    sizes = table.table("bar") if isinstance(table.values.get("bar"), dict) else None
    if sizes is None:
        return table.choice("bar", ("keep", "max"))
    found: dict[int, int] = {}
    for key in sizes.values:
        if key not in BARS:
            sizes.under(key).fail(
                f"{key} is no BAR: they are numbered 0 to 5", remedy='such as bar = { "0" = "8G" }'
            )
        found[int(key)] = sizes.text(key, _mebibytes) or 0
    if not found:
        sizes.fail("bar names no BAR", remedy='such as bar = { "0" = "8G" }')
    return found


def _mebibytes(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _MIB[match[2].upper()] if match else 0
    if not 0 < size <= LARGEST or size & (size - 1):
        raise ValueError(f'"{text}" is no size of a BAR (a power of two, such as "256M" or "8G")')
    return size
