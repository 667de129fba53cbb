"""`[claims]`: how many CPUs programs may have for themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args, get_type_hints

from hostlerd.model.settings import ClaimsPolicy
from hostlerd.settings.places import CLAIMS, PLACES
from hostlerd.toml_table import Table


def read_claims(before: ClaimsPolicy, table: Table | None) -> ClaimsPolicy:
    if table is None:
        return before
    table.allow(CLAIMS, PLACES)
    found: dict[str, Any] = {}
    profile = table.choice("users_profile", get_args(get_type_hints(ClaimsPolicy)["users_profile"]))
    if profile is not None:
        found["users_profile"] = profile
    for key in ("users_at_most", "at_most"):
        value = table.get(key, int)
        if value is not None and value < 0:
            table.under(key).fail(f"{key} cannot be {value}", remedy="0: nobody but root")
        if value is not None:
            found[key] = value
    return replace(before, **found)
