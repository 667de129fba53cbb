"""The declared fallback: a domain whose GPU is missing, degraded or another domain's is defined with an emulated one.

Pure. libvirt has no PCI hostdev that may be missing, and a prepare hook cannot change the XML, so this is done
beforehand: to the definition of a domain that does not run, by policy alone. The edit goes when what it lacked is there
and free again, or policy does not ask for it any more; what its owner changed meanwhile stays.
"""

from __future__ import annotations

from hostlerd.decide.gpu import gpu_addresses, summary
from hostlerd.decide.identity import stranger
from hostlerd.decide.ownership import Ownership
from hostlerd.model.domains import Definition
from hostlerd.model.edits import GpuChange, in_force
from hostlerd.model.observed import Observed
from hostlerd.model.plan import EditDefinition
from hostlerd.model.settings import Settings


def decide_fallback(observed: Observed, settings: Settings, own: Ownership) -> list[EditDefinition]:
    if not observed.snapshot.known or not observed.functions:
        return []
    steps: list[EditDefinition] = []
    for domain in observed.snapshot.inactive:
        if domain.uuid in observed.ledger.claims or domain.name in observed.ledger.troubles:
            continue  # it is starting; or its definition could not be changed
        policy = settings.domain(domain.name, domain.uuid)
        edit = in_force(observed.edits, domain.uuid)
        if edit is not None and edit.by == "fallback":
            why = "policy asks for no fallback any more"
            if policy.fallback == "emulated":
                if any(_lacking(observed, settings, own, domain, address) for address in edit.lacks):
                    continue
                why = f"{' '.join(edit.lacks)} is there and free again"
            steps.append(
                EditDefinition(
                    object=domain.name,
                    before=edit.after,
                    after=edit.before,
                    why=why,
                    uuid=domain.uuid,
                    change=None,
                )
            )
        elif policy.fallback == "emulated":
            cards = gpu_addresses(domain, observed.functions, observed.known)
            reasons = {a: why for a in cards if (why := _lacking(observed, settings, own, domain, a))}
            if reasons:
                change = GpuChange(way="emulated", leave=frozenset(cards), model=policy.fallback_model)
                steps.append(
                    EditDefinition(
                        object=domain.name,
                        before=summary(domain, observed.functions, observed.known),
                        after=f"emulated {policy.fallback_model}",
                        why=f"{'; '.join(dict.fromkeys(reasons.values()))}, and policy has an emulated fallback",
                        uuid=domain.uuid,
                        change=change,
                        lacks=cards,
                    )
                )
    return steps


def _lacking(observed: Observed, settings: Settings, own: Ownership, domain: Definition, address: str) -> str:
    """Why a start would fail for this function; empty where it would not."""
    function = observed.functions.get(address)
    if function is None:
        return f"{address} is not on this host"
    if stranger(observed, settings, function) is not None:
        return f"{address} is another card now"
    if address in observed.ledger.troubles:
        return f"{address} is degraded"
    other = own.held_by_other(address, domain)
    return f"{address} belongs to domain {other}" if other is not None else ""
