"""Where domains have their CPUs and why, who has each CPU, and what a start would move, as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.explanation import CpuOwner, Explanation, Move, Term
from hostlerd.model.plan import Plan

Json = dict[str, Any]


def outline_json(explanation: Explanation) -> Json:
    """`vcpus`: the CPUs of each vCPU; null where it has none of its own."""
    return {
        "mode": explanation.mode,
        "why": explanation.why,
        "vcpus": None if explanation.vcpus is None else [sorted(cpus) for cpus in explanation.vcpus],
        "emulator": sorted(explanation.emulator),
        "idle": sorted(explanation.idle),
    }


def placement_json(explanation: Explanation) -> Json:
    return {**outline_json(explanation), "terms": [_term(term) for term in explanation.terms]}


def placements_json(explanations: Iterable[Explanation]) -> list[Json]:
    """Of several domains, each with its name."""
    return [{"domain": one.name, "uuid": one.uuid, **placement_json(one)} for one in explanations]


def _term(term: Term) -> Json:
    return {
        "term": term.term,
        "title": term.title,
        "value": term.value,
        "best": term.best,
        "reached": term.reached,
        "why": term.why,
    }


def owners_json(owners: Iterable[CpuOwner], housekeeping: CpuSet) -> Json:
    """What the map of the host has besides the topology."""
    return {
        "owners": [
            {"cpu": o.cpu, "kind": o.kind, "domain": o.domain or None, "vcpu": o.vcpu} for o in owners
        ],
        "housekeeping": sorted(housekeeping),
    }


def what_if_json(explanation: Explanation, moves: Iterable[Move], plan: Plan) -> Json:
    """What would come of a start: of the plan what it refuses for that domain, and what is said of its CPUs."""
    about = (explanation.uuid, explanation.name)
    refusals = [r for r in plan.refusals if r.claim == explanation.uuid or r.object in about]
    return {
        "domain": explanation.name,
        "uuid": explanation.uuid,
        "placement": placement_json(explanation),
        "moves": [
            {
                "domain": move.domain,
                "uuid": move.uuid,
                "vcpu": move.vcpu,
                "from": format_cpu_list(move.before),
                "to": format_cpu_list(move.after),
                "why": move.why,
            }
            for move in moves
        ],
        "refusals": [{"object": r.object, "reason": r.reason, "remedy": r.remedy} for r in refusals],
    }
