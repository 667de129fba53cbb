"""Programs with CPUs of their own as the command line's JSON."""

from __future__ import annotations

from typing import Any

from hostlerd.model.cpuset import parse_cpu_list
from hostlerd.model.observed import Observed


def programs_json(observed: Observed) -> list[dict[str, Any]]:
    """`cpus` and `idle` are empty while it waits for them."""
    return [
        {
            "id": one.id,
            "name": one.name,
            "uid": one.uid,
            "pid": one.pid,
            "scope": one.scope,
            "cpus": sorted(one.own),
            "idle": sorted(parse_cpu_list(one.idle)),
            "profile": one.profile,
        }
        for one in sorted(observed.ledger.programs.values(), key=lambda one: (one.name, one.id))
    ]
