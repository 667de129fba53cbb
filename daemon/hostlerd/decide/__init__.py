"""What should be, against what is: a pure, total function from values to a plan.

Rules: no I/O, no clock, no log, no await. The same input gives the same plan; a converged host gives an empty one.
Every step and every refusal says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hostlerd.decide import life
from hostlerd.decide.allotment import absent, dedicated_cpus, isolated_cpus, tuned, tuned_for_programs
from hostlerd.decide.attributes import decide_attributes
from hostlerd.decide.awake import keeps_awake
from hostlerd.decide.departing import departing
from hostlerd.decide.fallback import decide_fallback
from hostlerd.decide.guest_memory import ask_for_memory, far_from_memory
from hostlerd.decide.handoff import decide_handoff
from hostlerd.decide.hugepages import decide_hugepages
from hostlerd.decide.identity import learned
from hostlerd.decide.isolation import (
    decide_masks,
    decide_partitions,
    decide_tuning,
    made,
    partition_wishes,
    strangers,
)
from hostlerd.decide.lasting_pins import decide_lasting_pins
from hostlerd.decide.ownership import Ownership, decide_ownership, owners
from hostlerd.decide.pinning import Lent, Tenant, decide_pins, lent, tenants
from hostlerd.decide.programs import decide_programs, scopes
from hostlerd.decide.reset import refuse_resets
from hostlerd.decide.rule import decide_rule
from hostlerd.decide.running import decide_running
from hostlerd.decide.screen import decide_screens
from hostlerd.decide.slices import decide_slices
from hostlerd.decide.usb import decide_usb
from hostlerd.decide.vfio import decide_vfio
from hostlerd.decide.wishes import is_of_device, wishes
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Plan, Refusal
from hostlerd.model.settings import Settings


def decide(observed: Observed, settings: Settings) -> Plan:
    own = decide_ownership(observed, settings)
    usb, usb_refusals = decide_usb(observed, settings)
    refused = {refusal.claim for refusal in (*own.refusals, *usb_refusals) if refusal.claim is not None}
    handoff = decide_handoff(observed, settings, own, decide_vfio(observed, settings, own))
    slices = decide_slices(observed, settings, own, handoff.settled)
    screens = decide_screens(observed, own)
    running = decide_running(observed, own)
    waiting, whom = departing(observed, own)
    domains = [
        t for t in tenants(observed, settings) if t.definition.uuid not in refused or t.running is not None
    ]
    programs = decide_programs(observed, settings, domains)
    placements = programs.domains
    dedicated, crowding = dedicated_cpus(observed, settings, domains, programs)
    housekeeping = observed.topology.online - dedicated
    isolated = isolated_cpus(domains, programs, dedicated)
    partitions = decide_partitions(observed, domains, placements, dedicated)
    house = observed.topology.online - isolated
    masks, units, impossible = decide_masks(observed, isolated, house, partitions.masks)
    partitioned, unpartitioned = partition_wishes(observed, partitions, masked=not masks)
    taken = {uuid: placement.taken & dedicated for uuid, placement in placements.items()}
    tunings = decide_tuning(
        observed, [*tuned(observed, own, domains, taken), *tuned_for_programs(observed, programs)]
    )
    attributes = decide_attributes(
        observed,
        (*partitioned, *slices.wishes, *wishes(observed, settings, own), *tunings.wishes),
        tunings.identities,
    )
    quiet = {wish.path for wish in (*partitioned, *tunings.wishes)}
    of_programs = frozenset[int]().union(*(p.taken for _, p in programs.placements(observed.topology.online)))
    loans = lent(observed, domains, placements, dedicated - of_programs)
    pins = decide_pins(observed, domains, placements, housekeeping, loans)
    rules, files = decide_rule(observed, settings)
    pages = decide_hugepages(observed, settings, placements, refused | _being_cleared(observed, own))
    steps = (
        *rules,
        *own.clearing,
        *pages.steps,
        *(step for step in attributes.steps if step.object not in quiet),
        # Before drivers come back: an interrupt that they request begins with the default affinity.
        *(step for step in attributes.returns if not is_of_device(step.object)),
        *slices.make,
        *handoff.steps,
        *slices.unmake,
        *screens.steps,
        *(step for step in attributes.returns if is_of_device(step.object)),
        *running.steps,
        *masks,
        *scopes(observed, programs.admitted),
        *tunings.steps,
        *(step for step in attributes.steps if step.object in quiet),
        *partitions.imagined,
        *pins.steps,
    )
    changing = bool(steps) or not all(claim.prepared for claim in observed.ledger.claims.values())
    return Plan(
        steps=(
            *steps,
            *decide_fallback(observed, settings, own),
            *decide_lasting_pins(observed, settings, changing=changing),
            *usb,
        ),
        refusals=(
            *own.refusals,
            *waiting,
            *life.silent(observed, {a: h.name for a, h in own.holder.items() if h.uuid}),
            *slices.refusals,
            *usb_refusals,
            *pages.refusals,
            *_not_offered(observed, settings, own),
            *absent(observed, settings),
            *crowding,
            *programs.refusals,
            *impossible,
            *partitions.refusals,
            *unpartitioned,
        ),
        cautions=tuple(far_from_memory(observed, settings)),
        questions=tuple(
            dict.fromkeys(
                (
                    *own.questions,
                    *whom,
                    *handoff.questions,
                    *slices.questions,
                    *attributes.questions,
                    *tunings.questions,
                    *partitions.questions,
                    *screens.questions,
                    *running.questions,
                    *pages.questions,
                    *ask_for_memory(observed),
                )
            )
        ),
        settled=(
            *handoff.settled,
            *slices.settled,
            *attributes.settled,
            *tunings.settled,
            *screens.settled,
            *running.settled,
            *pages.settled,
            *units,
            *pins.gone,
            *programs.gone,
            *files,
        ),
        counted=pages.counted,
        waiting=pages.waiting,
        learned=learned(observed, settings),
        awake=keeps_awake(observed, settings, own, handoff.steps),
        owners=owners(observed, own),
        placements=(*placements.values(), *(p for _, p in programs.placements(observed.topology.online))),
        housekeeping=housekeeping,
        dedicated=dedicated,
        isolated=isolated,
        tuned=replace(tunings.tuned, notes=(*tunings.tuned.notes, *strangers(observed, isolated))),
        partitions=tuple(partitions.wanted),
        made=made(observed, partitions),
        lent=frozenset[int]().union(*(loan.cpus for loan in loans)),
        confirmed=tuple(pins.confirmed),
        notes=_notes(domains, loans),
    )


def _being_cleared(observed: Observed, own: Ownership) -> set[str | None]:
    """Claims for which something has to get out of the way, or that may yet be refused for what is asked."""
    return set(observed.ledger.claims) if own.questions else {step.claim for step in own.clearing}


def _not_offered(observed: Observed, settings: Settings, own: Ownership) -> list[Refusal]:
    """Resets that policy wants of cards of a domain, and the kernel does not offer. The domain starts all the same."""
    found: list[Refusal] = []
    for address, want in own.wants.items():
        policy = settings.device(observed.functions[address])
        if policy is not None and not want.waits:
            found += refuse_resets(observed, address, policy)
    return found


_UNHEEDED = 'smt = "isolate" is not heeded: its guest has 2 threads a core, which need the siblings'


def _pairs(tenant: Tenant) -> bool:
    topology = tenant.definition.topology
    return tenant.policy.smt == "isolate" and topology is not None and topology.threads == 2


def _notes(domains: list[Tenant], loans: Sequence[Lent]) -> dict[str, tuple[str, ...]]:
    """What is to be known of each domain's CPUs, beside where they are."""
    found = {
        t.definition.uuid: (
            *([t.hand.told()] if t.hand.sets else []),
            *([_UNHEEDED] if _pairs(t) else []),
            *(
                f"shared domains starve and use its CPUs for now, {loan.why}"
                for loan in loans
                if loan.owner == t.uuid
            ),
        )
        for t in domains
    }
    return {uuid: notes for uuid, notes in found.items() if notes}
