"""The value of `hugepages` for domains: a word, or what to do where the kernel gives too few."""

from __future__ import annotations

from hostlerd.model.settings import HugepagesPolicy
from hostlerd.settings.places import HUGEPAGES, PLACES
from hostlerd.toml_table import Table


def read_hugepages(table: Table, key: str) -> HugepagesPolicy | None:
    if isinstance(table.values.get(key), str):
        off = table.choice(key, ("auto", "off")) == "off"
        return HugepagesPolicy(mode="off" if off else "auto")
    more = table.table(key)
    if more is None:
        return None
    more.allow(HUGEPAGES, PLACES)
    return HugepagesPolicy(
        compact=more.get("compact", bool) or False, drop_caches=more.get("drop_caches", bool) or False
    )
