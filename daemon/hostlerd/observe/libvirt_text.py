"""libvirt's way of writing values in XML: numbers, CPU sets, memory sizes, addresses; and how a wrong one is told.

Rules: what libvirt accepts is accepted (virbitmap.c, virutil.c, device_conf.c); what it refuses is a BadInput that
shows the element as it stands in the file.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from hostler.errors import BadInput
from hostlerd.model.cpuset import CpuSet

MAX_CPU = 16384
"""libvirt's VIR_DOMAIN_CPUMASK_LEN."""

_CLAUSE = re.compile(r"(?:\^\s*(\d+)|(\d+)\s*(?:-\s*(\d+))?)\s*", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{32}")
_UNITS: dict[str, int] = {"b": 1, "byte": 1, "bytes": 1} | {
    letter + ending: base ** (power + 1)
    for power, letter in enumerate("kmgtpe")
    for ending, base in (("", 1024), ("ib", 1024), ("b", 1000))
}


def label(element: Element) -> str:
    """The element as a person finds it: ``<vcpupin vcpu='0' cpuset='x'>``."""
    attributes = "".join(f" {key}='{value}'" for key, value in element.attrib.items())
    shown = f"<{element.tag}{attributes}>"
    return shown if len(shown) <= 120 else f"{shown[:116]}...>"


def wrong(element: Element, reason: str) -> BadInput:
    sentence = f"{label(element)}: {reason}"
    return BadInput(
        "".join(c if c.isprintable() else " " for c in sentence),
        remedy="correct the domain's XML",
        data={"element": str(element.tag)},
    )


def number(element: Element, word: str | None, what: str, *, most: int = 0xFFFFFFFF) -> int:
    """A whole number as C's strtoul(base 0) reads it: 10, 0x0a, 012."""
    text = (word or "").strip().lower()
    digits, base = (
        (text[2:], 16) if text.startswith("0x") else (text, 8 if text[:1] == "0" and len(text) > 1 else 10)
    )
    try:
        value = int(digits, base) if digits.isalnum() and digits.isascii() and len(digits) < 32 else -1
    except ValueError:
        value = -1
    if value < 0:
        raise wrong(element, f"{what} {word!r} is not a number" if word is not None else f"it has no {what}")
    if value > most:
        raise wrong(element, f"{what} {word!r} is above {most:#x}")
    return value


def decimal(element: Element, word: str | None, what: str) -> int:
    """A whole number in base 10, as ids and counts are."""
    text = (word or "").strip()
    if not (text.isdecimal() and text.isascii() and len(text) < 11 and int(text) <= 0xFFFFFFFF):
        raise wrong(element, f"{what} {word!r} is not a number" if word is not None else f"it has no {what}")
    return int(text)


def yes(element: Element, attribute: str) -> bool:
    value = element.get(attribute, "no")
    if value not in ("yes", "no"):
        raise wrong(element, f"{attribute} is {value!r}, neither yes nor no")
    return value == "yes"


def cpu_set(element: Element, attribute: str, *, may_be_empty: bool = False, what: str = "CPUs") -> CpuSet:
    """``0-3,^2,8``: clauses apply in order, and ^N takes out one."""
    word = element.get(attribute)
    if word is None:
        raise wrong(element, f"it has no {attribute}")
    cpus: set[int] = set()
    for clause in word.split(","):
        match = _CLAUSE.fullmatch(clause.strip())
        if match is None:
            raise wrong(element, f"{word!r} is not a set of {what} (such as 0-3,^2,8)")
        out, first, last = (None if digits is None else int(digits[:9]) for digits in match.groups())
        if out is not None:
            cpus.discard(out)
            continue
        low = first or 0
        high = low if last is None else last
        if high < low or high >= MAX_CPU:
            raise wrong(element, f"{clause.strip()!r} is not a range of {what}")
        cpus.update(range(low, high + 1))
    if not cpus and not may_be_empty:
        raise wrong(element, f"{word!r} leaves no {what}")
    return frozenset(cpus)


def kib(element: Element, word: str | None, unit: str | None) -> int:
    """A size in KiB, rounded up; KiB where no unit is given."""
    value = number(element, word, "size", most=1 << 63)
    factor = _UNITS.get((unit or "KiB").lower())
    if factor is None:
        raise wrong(element, f"{unit!r} is not a unit of memory")
    return -(-value * factor // 1024)


def uuid(element: Element, word: str | None) -> str:
    """Canonical form; dashes and spaces may stand anywhere (virUUIDParse)."""
    digits = (word or "").strip().replace("-", "").replace(" ", "").lower()
    if not _UUID.fullmatch(digits):
        raise wrong(element, f"{word!r} is not a UUID" if word is not None else "it has no uuid")
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def pci_address(element: Element) -> str:
    """``0000:01:00.0`` from domain, bus, slot and function, each 0 where it is missing."""

    def part(name: str, most: int) -> int:
        word = element.get(name)
        return 0 if word is None else number(element, word, name, most=most)

    if all(element.get(name) is None for name in ("domain", "bus", "slot", "function")):
        raise wrong(element, "it is no PCI address (domain, bus, slot, function)")
    domain, bus, slot = part("domain", 0xFFFFFFFF), part("bus", 0xFF), part("slot", 0x1F)
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{part('function', 7)}"
