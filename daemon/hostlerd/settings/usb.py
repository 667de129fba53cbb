"""A `[[usb]]` section: which USB devices go to which running domain."""

from __future__ import annotations

import re

from hostlerd.model.settings import UsbMatch, UsbPolicy
from hostlerd.model.usb import PATH, PORT
from hostlerd.settings.places import PLACES, USB, USB_MATCH
from hostlerd.settings.words import domain, filled
from hostlerd.toml_table import Table

ELSEWHERE = {**PLACES, **dict.fromkeys(USB_MATCH, "the match of this [[usb]]: match = { ... }")}


def read_usb(table: Table, *, number: int) -> UsbPolicy:
    table.allow(USB, ELSEWHERE)
    match, receiver = table.table("match"), table.text("domain", domain)
    if match is None:
        table.fail(
            f"[[usb]] number {number} has no match, so it is about no device",
            remedy='add, for instance: match = { vendor = "046d", product = "c52b" }',
        )
    if receiver is None:
        table.fail(
            f"[[usb]] number {number} has no domain: who gets the device?",
            remedy='add, for instance: domain = "win11"',
        )
    return UsbPolicy(name=table.text("name", filled) or f"usb {number}", match=_match(match), domain=receiver)


def _match(table: Table) -> UsbMatch:
    table.allow(USB_MATCH, PLACES)
    match = UsbMatch(
        vendor=_id(table, "vendor"),
        product=_id(table, "product"),
        serial=table.text("serial", filled),
        port=table.text("port", _port),
    )
    if match == UsbMatch():
        table.fail(
            "match says nothing: it would be about every device", remedy=f"one of: {', '.join(USB_MATCH)}"
        )
    if match.product is not None and match.vendor is None:
        table.under("product").fail(
            "match has a product without a vendor", remedy="each vendor numbers its own products: add vendor"
        )
    return match


def _id(table: Table, key: str) -> int | None:
    """A number, or the hexadecimal text that lsusb shows."""
    if isinstance(table.values.get(key), str):
        return table.text(key, _hexadecimal)
    number = table.get(key, int)
    if number is not None and not 0 <= number <= 0xFFFF:
        table.under(key).fail(f"{key} {number:#x} does not fit in 16 bits")
    return number


def _hexadecimal(text: str) -> int:
    digits = text.lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{1,4}", digits):
        raise ValueError(f'"{text}" is not a USB ID (such as "046d" or 0x046d)')
    return int(digits, 16)


def _port(text: str) -> str:
    """A port as the kernel names it, or by its controller, as udev does."""
    path = PATH.fullmatch(text.lower())
    if path is not None:
        return f"pci-{path[1]}-usb-0:{path[2]}"
    if not PORT.fullmatch(text):
        raise ValueError(
            f'"{text}" is not a USB port (such as "1-2.3": bus 1, its port 2, port 3 of the hub there; or its ID_PATH, '
            '"pci-0000:00:14.0-usb-0:2.3", which stays where buses are numbered anew)'
        )
    return text
