"""`[domains]` and `[domain."name or UUID"]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from hostlerd.model.settings import DomainPolicy
from hostlerd.settings import words
from hostlerd.settings.hugepages import read_hugepages
from hostlerd.settings.places import DOMAIN, PLACES
from hostlerd.toml_table import Table


def read_domain(table: Table) -> dict[str, Any]:
    """The keys of DomainPolicy that are set here."""
    table.allow(DOMAIN, PLACES)
    hints = get_type_hints(DomainPolicy)
    found: dict[str, Any] = {
        key: table.get(key, bool) if hints[key] is bool else table.choice(key, get_args(hints[key]))
        for key in DOMAIN
        if key != "hugepages"
    }
    found["hugepages"] = read_hugepages(table)
    return {key: value for key, value in found.items() if value is not None}


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
