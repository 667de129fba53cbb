"""A plan and the daemon's state as the command line's JSON."""

from __future__ import annotations

from typing import Any

from hostlerd.model.ledger import Ledger
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Plan
from hostlerd.report.programs import programs_json

Json = dict[str, Any]


def plan_json(plan: Plan) -> Json:
    return {
        "steps": [
            {"kind": step.kind, "object": step.object, "from": step.before, "to": step.after, "why": step.why}
            for step in plan.steps
        ],
        "refusals": [{"object": r.object, "reason": r.reason, "remedy": r.remedy} for r in plan.refusals],
        "converged": plan.converged,
    }


def degraded_json(ledger: Ledger) -> list[Json]:
    return [
        {"object": t.object, "reason": t.reason, "since": t.since, "remedy": t.remedy}
        for t in ledger.troubles.values()
    ]


def hugepages_json(ledger: Ledger) -> list[Json]:
    """What was added to which pool for whom."""
    return [
        {"domain": r.name, "uuid": r.uuid, "node": r.node, "page_kib": r.page_kib, "pages": r.added}
        for r in ledger.hugepages.values()
        if r.added
    ]


def status_json(*, version: str, passes: int, observed: Observed, plan: Plan, devices: list[Json]) -> Json:
    """`devices`, `domains`: how many of each owner and of each way to have a GPU."""
    ledger = observed.ledger
    state = "degraded" if ledger.troubles else "converged" if not plan.steps else "working"
    running = observed.snapshot.running
    names = {d.uuid: d.name for d in running} | {c.uuid: c.name for c in ledger.claims.values()}
    all_names = names | {p.id: p.name for p in ledger.programs.values()}
    return {
        "version": version,
        "state": state,
        "pass": passes,
        "devices": [d for d in devices if d["owner"]["kind"] != "host"],
        "mdevs": [
            {"uuid": m.uuid, "type": m.type, "parent": m.parent, "domain": owner.who}
            for m in observed.slices.mdevs.values()
            if (owner := plan.owners.get(m.uuid)) is not None and owner.kind == "domain"
        ],
        "domains": [
            {
                "name": name,
                "uuid": uuid,
                "state": _state(uuid, observed),
                "notes": list(plan.notes.get(uuid, ())),
            }
            for uuid, name in sorted(names.items())
        ],
        "isolation": {
            "cpus": sorted(plan.isolated),
            "for": sorted(
                all_names[p.uuid] for p in plan.placements if p.taken & plan.isolated and p.uuid in all_names
            ),
            "interrupts": {"moved": plan.tuned.moved, "immovable": plan.tuned.immovable},
            "partitions": [
                {"unit": p.unit, "kind": p.kind, "cpus": sorted(p.cpus), "for": list(p.names)}
                for p in plan.made
            ],
            "notes": list(plan.tuned.notes),
        },
        "claims": programs_json(observed),
        "hugepages": hugepages_json(ledger),
        "degraded": degraded_json(ledger),
        "refusals": [{"object": r.object, "reason": r.reason, "remedy": r.remedy} for r in plan.refusals],
        "warnings": [{"object": c.object, "reason": c.reason, "remedy": c.remedy} for c in plan.cautions],
        "residue": list(ledger.residue),
        "libvirt": "connected" if observed.snapshot.known else "not connected",
    }


def _state(uuid: str, observed: Observed) -> str:
    return next((d.state for d in observed.snapshot.running if d.uuid == uuid), "prepared")
