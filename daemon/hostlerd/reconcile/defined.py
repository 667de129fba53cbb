"""The domain that a request about a definition means, and what came of it."""

from __future__ import annotations

from dataclasses import replace

from hostler.errors import BadInput, Refused, Unreachable
from hostlerd.act.definitions import Outcome
from hostlerd.model.domains import Definition, Snapshot
from hostlerd.reconcile.shared import Shared

Edited = tuple[Definition, Outcome]
"""The domain as it was, and what was or would be changed."""


async def find(shared: Shared, name: str) -> tuple[Definition, bool]:
    """Its definition, and whether it runs. One that was defined a moment ago is in no snapshot yet: asked again.

    Raises BadInput (no such domain), Refused (it has no definition, or is being started), Unreachable.
    """
    snapshot = shared.snapshot
    if not snapshot.known:
        raise Unreachable("libvirt cannot be reached", remedy="start libvirtd or virtqemud")
    found = _in(snapshot, name)
    if found is None:
        hypervisor = shared.host.hypervisor
        running, inactive = await hypervisor.running(), await hypervisor.inactive()
        found = _in(replace(snapshot, running=running, inactive=inactive), name)
    if found is None:
        raise BadInput(f"libvirt has no domain {name!r}", remedy="`hostler domains` lists them")
    definition, runs = found
    if definition.uuid in shared.journal.ledger.claims and not runs:
        raise Refused(f"{definition.name} is being started", remedy="wait until it runs, or until it failed")
    return found


def _in(snapshot: Snapshot, name: str) -> tuple[Definition, bool] | None:
    """The definition of a domain by name or UUID, and whether it runs. Raises Refused for one that has none."""
    for domain in snapshot.running:
        if name in (domain.name, domain.uuid):
            if domain.definition is None:
                raise Refused(
                    f"{domain.name} has no definition: it is gone when it stops",
                    remedy="change the XML it is created from",
                )
            return domain.definition, True
    for definition in snapshot.inactive:
        if name in (definition.name, definition.uuid):
            return definition, False
    return None
