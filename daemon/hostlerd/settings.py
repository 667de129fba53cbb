"""Policy files to Settings: /etc/hostler/hostler.toml, then hostler.d/*.toml in the order of their names.

Rules: nothing is guessed. An unknown key, a wrong type or a value that makes no sense is BadInput with file,
line and what was probably meant, and no Settings come back, so that the caller keeps the policy it has. A
later file overrides keys of an earlier one; `[[device]]` sections add up, and the first that matches a device
wins.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args, get_type_hints
from uuid import UUID

from hostler.errors import BadInput
from hostlerd.model.cpuset import parse_cpu_list
from hostlerd.model.devices import parse_address
from hostlerd.model.settings import DevicePolicy, DomainPolicy, Housekeeping, Match, Settings
from hostlerd.toml_table import Place, Table, read_table

_URI = re.compile(r"[a-z]+(?:\+[a-z0-9]+)?://([^/\s]*)/\S*")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

_HOUSEKEEPING = ("cpus", "at_least")
_DOMAIN = ("cpus", "prefer", "profile", "rebalance")
_DEVICE = ("name", "match", "when_idle", "group", "holders")
_MATCH = ("address", "vendor", "device", "subsystem", "serial", "slot", "path")
_PLACES = {
    **dict.fromkeys(_MATCH, "the match of a [[device]]: match = { ... }"),
    **dict.fromkeys(_DEVICE, "a [[device]]"),
    **dict.fromkeys(_DOMAIN, '[domains], or [domain."name or UUID"]'),
    "cpus": '[domains], [domain."name or UUID"] or [host.housekeeping]',
    "at_least": "[host.housekeeping]",
    "libvirt": "[host]",
    "housekeeping": "[host]",
}
"""For whoever writes a key in the wrong table. Tables at the top are left out: they are what one writes first."""


def load(policy_file: str, policy_directory: str) -> Settings:
    """The policy of a file and of the *.toml files of a folder. What is missing is no error: the defaults hold.

    Raises BadInput (data: file, line, key, nearest; what does not apply is left out).
    """
    settings, overrides = Settings(), dict[str, dict[str, Any]]()
    for path in (policy_file, *_drop_ins(policy_directory)):
        table = read_table(path)
        if table is not None:
            settings = _merged(settings, overrides, table)
    return replace(
        settings,
        overrides={name: replace(settings.domains, **changes) for name, changes in overrides.items()},
    )


def _drop_ins(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadInput(f"{directory}: cannot be read: {error.strerror}", data={"file": directory}) from error
    return [
        os.path.join(directory, name)
        for name in sorted(names)
        if name.endswith(".toml") and not name.startswith(".")
    ]


def _merged(settings: Settings, overrides: dict[str, dict[str, Any]], table: Table) -> Settings:
    """The settings with one more file on top; overrides are changed in place, as defaults may still follow."""
    table.allow(("host", "domains", "domain", "device"), _PLACES)
    host = table.table("host")
    if host is not None:
        host.allow(("libvirt", "housekeeping"), _PLACES)
        uris = host.texts("libvirt", _libvirt_uri)
        settings = replace(
            settings,
            libvirt=settings.libvirt if uris is None else uris,
            housekeeping=_housekeeping(settings.housekeeping, host.table("housekeeping")),
        )
    domains = table.table("domains")
    if domains is not None:
        settings = replace(settings, domains=replace(settings.domains, **_domain_changes(domains)))
    for name, changes in _domain_overrides(table):
        overrides.setdefault(name, {}).update(changes)
    for device in table.tables("device"):
        policy = _device(device, number=len(settings.devices) + 1)
        if policy.name in {known.name for known in settings.devices}:
            device.under("name").fail(f'two [[device]] sections are named "{policy.name}"')
        settings = replace(settings, devices=(*settings.devices, policy))
    return settings


def _libvirt_uri(text: str) -> str:
    match = _URI.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a libvirt URI (such as qemu:///system)')
    if match[1]:
        raise ValueError(f'"{text}" is on another host; hostler looks after this one')
    return text


def _housekeeping(before: Housekeeping, table: Table | None) -> Housekeeping:
    if table is None:
        return before
    table.allow(_HOUSEKEEPING, _PLACES)
    cpus = table.text("cpus", parse_cpu_list)
    at_least = table.get("at_least", int)
    if at_least is not None and at_least < 1:
        table.under("at_least").fail(
            f"at_least cannot be {at_least}", remedy="the host itself needs one CPU or more"
        )
    return Housekeeping(
        cpus=before.cpus if cpus is None else cpus,
        at_least=before.at_least if at_least is None else at_least,
    )


def _domain_changes(table: Table) -> dict[str, Any]:
    """The keys of DomainPolicy that are set here."""
    table.allow(_DOMAIN, _PLACES)
    hints = get_type_hints(DomainPolicy)
    found = {key: table.choice(key, get_args(hints[key])) for key in _DOMAIN if key != "rebalance"} | {
        "rebalance": table.get("rebalance", bool)
    }
    return {key: value for key, value in found.items() if value is not None}


def _domain_overrides(top: Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """By name as written, or by UUID as libvirt prints it."""
    domain = top.table("domain")
    if domain is None:
        return
    seen: set[str] = set()
    for name, value in domain.values.items():
        if not name.strip():
            domain.under(name).fail("a domain's name cannot be empty")
        if not isinstance(value, dict) and name in _DOMAIN:
            domain.under(name).fail(
                f'[domain] has a key "{name}" of its own',
                remedy='for all domains write [domains], for one [domain."its name or UUID"]',
                nearest="domains",
            )
        known_as = str(UUID(name)) if _UUID.fullmatch(name) else name
        if known_as in seen:
            domain.under(name).fail(f"domain {known_as} has two sections")
        seen.add(known_as)
        section = domain.table(name)
        if section is not None:
            yield known_as, _domain_changes(section)


def _device(table: Table, *, number: int) -> DevicePolicy:
    table.allow(_DEVICE, _PLACES)
    match = table.table("match")
    if match is None:
        table.fail(
            f"[[device]] number {number} has no match: which device is it about?",
            remedy='add, for instance: match = { address = "0000:01:00.0" }',
        )
    hints = get_type_hints(DevicePolicy)
    changes: dict[str, Any] = {
        "when_idle": table.choice("when_idle", get_args(hints["when_idle"])),
        "group": table.texts("group", parse_address),
        "holders": table.choice("holders", get_args(hints["holders"])),
    }
    return DevicePolicy(
        name=table.text("name", _filled) or f"device {number}",
        match=_match(match),
        **{key: value for key, value in changes.items() if value is not None},
    )


def _match(table: Table) -> Match:
    table.allow(_MATCH, _PLACES)
    match = Match(
        address=table.text("address", parse_address),
        vendor=_pci_id(table, "vendor", bits=16),
        device=_pci_id(table, "device", bits=16),
        subsystem=_pci_id(table, "subsystem", bits=32),
        serial=table.text("serial", _filled),
        slot=table.text("slot", _filled),
        path=table.text("path", _filled),
    )
    if match == Match():
        table.fail(
            "match says nothing: it would be about every device", remedy=f"one of: {', '.join(_MATCH)}"
        )
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


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("cannot be empty")
    return text
