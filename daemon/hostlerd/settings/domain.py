"""`[domains]` and `[domain."name or UUID"]`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from hostlerd.model.settings import EMULATORS, PRIORITIES, DomainPolicy, HugepagesPolicy
from hostlerd.settings import words
from hostlerd.settings.hugepages import read_hugepages
from hostlerd.settings.isolation import read_isolation
from hostlerd.settings.places import DOMAIN, PLACES
from hostlerd.toml_table import Table


def over(before: DomainPolicy, changes: Mapping[str, Any]) -> DomainPolicy:
    """A policy with the keys that are set on top of it; of `isolation`, too, key by key."""
    isolation = {**before.isolation, **changes.get("isolation", {})}
    return replace(before, **{**changes, "isolation": isolation})


FIELDS = {"class": "core_class"}
"""Where a field of DomainPolicy is not called as the key is."""
RANGES = {"priority": PRIORITIES, "emulator": EMULATORS}


def read_domain(table: Table) -> dict[str, Any]:
    """The keys of DomainPolicy that are set here."""
    table.allow(DOMAIN, PLACES)
    hints = get_type_hints(DomainPolicy)
    found: dict[str, Any] = {}
    for key in DOMAIN:
        if key == "isolation":
            found[key] = read_isolation(table.table(key))
            continue
        field = FIELDS.get(key, key)
        if hints[field] is HugepagesPolicy:
            found[field] = read_hugepages(table, key)
        elif hints[field] is bool:
            found[field] = table.get(key, bool)
        elif hints[field] is int:
            found[field] = _count(table, key, RANGES[field])
        else:
            found[field] = table.choice(key, get_args(hints[field]))
    return {field: value for field, value in found.items() if value is not None}


def _count(table: Table, key: str, allowed: range) -> int | None:
    value = table.get(key, int)
    if value is not None and value not in allowed:
        table.under(key).fail(f"{key} cannot be {value}", remedy=f"allowed: {allowed[0]} to {allowed[-1]}")
    return value


def read_overrides(top: Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """By name as written, or by UUID as libvirt prints it."""
    domain = top.table("domain")
    if domain is None:
        return
    seen: set[str] = set()
    for name, value in domain.values.items():
        if not name.strip():
            domain.under(name).fail("a domain's name cannot be empty")
        if not isinstance(value, dict) and name in DOMAIN:
            domain.under(name).fail(
                f'[domain] has a key "{name}" of its own',
                remedy='for all domains write [domains], for one [domain."its name or UUID"]',
                nearest="domains",
            )
        known_as = words.domain(name)
        if known_as in seen:
            domain.under(name).fail(f"domain {known_as} has two sections")
        seen.add(known_as)
        section = domain.table(name)
        if section is not None:
            yield known_as, read_domain(section)
