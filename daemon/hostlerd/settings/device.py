"""A `[[device]]` section: which functions it is about, and what it says of them."""

from __future__ import annotations

import re
from typing import Any, get_args, get_type_hints

from hostlerd.model.devices import parse_address
from hostlerd.model.settings import DevicePolicy, Match
from hostlerd.settings.card import read_card
from hostlerd.settings.places import DEVICE, MATCH, PLACES
from hostlerd.settings.slices import read_vfs
from hostlerd.settings.words import driver, filled
from hostlerd.toml_table import Place, Table

LONGEST = 12
"""Seconds: twice of that, for asking and for force, is as long as a start may be prepared; others wait meanwhile."""
_WAY = re.compile(
    r"(?:[0-9a-f]{4,8}:[0-9a-f]{2}(?:/[0-9a-f]{2}(?:\.[0-7])?)+|pci-[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])"
)
_UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]+\.(?:service|socket|target|scope|slice|mount|timer|path)")


def read_device(table: Table, *, number: int) -> DevicePolicy:
    table.allow(DEVICE, PLACES)
    match = table.table("match")
    if match is None:
        table.fail(
            f"[[device]] number {number} has no match, so it is about no device",
            remedy='add, for instance: match = { address = "0000:01:00.0" }',
        )
    hints = get_type_hints(DevicePolicy)
    choices = ("when_idle", "companions", "holders", "leave", "power")
    changes: dict[str, Any] = {
        **{key: table.choice(key, get_args(hints[key])) for key in choices},
        "group": table.texts("group", parse_address),
        "holder_limit": _seconds(table, "holder_limit"),
        "units": table.texts("units", _unit),
        "driver": table.text("driver", driver),
        **read_vfs(table),
        **read_card(table),
    }
    return DevicePolicy(
        name=table.text("name", filled) or f"device {number}",
        match=_match(match),
        **{key: value for key, value in changes.items() if value is not None},
    )


def _seconds(table: Table, key: str) -> float | None:
    value = table.values.get(key)
    seconds = table.get(key, float if isinstance(value, float) else int)
    if seconds is not None and not 0 < seconds <= LONGEST:
        table.under(key).fail(
            f"{key} is {seconds:g} seconds",
            remedy=f"more than 0 and no more than {LONGEST}: a start waits no longer than twice of it",
        )
    return None if seconds is None else float(seconds)


def _way(text: str) -> str:
    """``0000:00/01.0/00.0``; sysfs' own path is brought to that, udev's ID_PATH is left as it is."""
    way = text
    if text.startswith(("/sys/devices/", "pci")) and not text.startswith("pci-"):
        root, *functions = text.removeprefix("/sys/devices/").strip("/").split("/")
        way = "/".join([root.removeprefix("pci"), *(part.rpartition(":")[2] for part in functions)])
    if not _WAY.fullmatch(way):
        raise ValueError(
            f'"{text}" is no way to a PCI device (such as 0000:00/01.0/00.0, which `hostler devices --json` shows)'
        )
    return way


def _unit(text: str) -> str:
    if not _UNIT.fullmatch(text):
        raise ValueError(f'"{text}" is no unit of systemd (such as display-manager.service)')
    return text


def _match(table: Table) -> Match:
    table.allow(MATCH, PLACES)
    match = Match(
        address=table.text("address", parse_address),
        vendor=_pci_id(table, "vendor", bits=16),
        device=_pci_id(table, "device", bits=16),
        subsystem=_pci_id(table, "subsystem", bits=32),
        serial=table.text("serial", filled),
        slot=table.text("slot", filled),
        path=table.text("path", _way),
    )
    if match == Match():
        table.fail("match says nothing: it would be about every device", remedy=f"one of: {', '.join(MATCH)}")
    if match.device is not None and match.vendor is None:
        table.under("device").fail(
            "match has a device without a vendor", remedy="each vendor numbers its own devices: add vendor"
        )
    return match


def _pci_id(table: Table, key: str, *, bits: int) -> int | None:
    """A number, or the hexadecimal text that lspci -nn shows; a subsystem may be `vendor:device`."""
    value = table.values.get(key)
    place: Place = table.under(key)
    if isinstance(value, str):
        return place.converted(value, lambda text: _hexadecimal(text, bits=bits))
    number = table.get(key, int)
    if number is not None and not 0 <= number < 1 << bits:
        place.fail(f"{key} {number:#x} does not fit in {bits} bits")
    return number


def _hexadecimal(text: str, *, bits: int) -> int:
    pieces = text.lower().removeprefix("0x").split(":") if bits == 32 else [text.lower().removeprefix("0x")]
    width = 4 if len(pieces) == 2 else bits // 4
    if len(pieces) > 2 or not all(re.fullmatch(f"[0-9a-f]{{1,{width}}}", piece) for piece in pieces):
        example = '"1043:04e5"' if bits == 32 else '"1002" or 0x1002'
        raise ValueError(f'"{text}" is not a PCI ID (such as {example})')
    return int("".join(piece.zfill(width) for piece in pieces), 16)
