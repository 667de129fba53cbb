"""Who has which CPU, what a domain was given and why, and what a start would move. Through the whole decision."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.daemon.decide.cards import GPU, NIC, WIN11, WORK, claim, domain, observed

from hostlerd.decide import decide
from hostlerd.decide.explained import Explained, outlines, owners
from hostlerd.model.domains import Definition, Running
from hostlerd.model.explanation import Explanation
from hostlerd.model.ledger import Ledger, PinRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Pin, Plan
from hostlerd.model.settings import DomainPolicy, Housekeeping, Settings

DEFAULTS = Settings()


def kinds(found: object) -> dict[int, str]:
    """CPU to `kind domain vCPU`."""
    return {
        o.cpu: " ".join(filter(None, [o.kind, o.domain, "" if o.vcpu is None else str(o.vcpu)]))
        for o in found
    }  # type: ignore[attr-defined]


def run(definition: Definition, live: Definition | None = None) -> Running:
    return Running(live=live or definition, definition=definition)


def performed(state: Observed, plan: Plan) -> Observed:
    """libvirt after the plan's pins of vCPUs, with the records journalled."""
    running, records = {d.uuid: d for d in state.snapshot.running}, dict(state.ledger.pins)
    for step in plan.steps:
        if isinstance(step, Pin) and step.thread == "vcpu":
            live = running[step.uuid].live
            live = replace(live, vcpu_pins={**live.vcpu_pins, step.index: step.cpus})
            running[step.uuid] = replace(running[step.uuid], live=live)
            records[step.uuid] = step.record or records[step.uuid]
    snapshot = replace(state.snapshot, running=tuple(running.values()))
    return replace(state, snapshot=snapshot, ledger=replace(state.ledger, pins=records))


def settled(*running: object, settings: Settings = DEFAULTS) -> Observed:
    state = observed(running=running)  # type: ignore[arg-type]
    return performed(state, decide(state, settings))


def told(state: Observed, uuid: str, settings: Settings = DEFAULTS, *asked: str) -> Explanation:
    found = Explained(state, settings, decide(state, settings), asked).of(uuid)
    assert found is not None
    return found


def starting(state: Observed, *definitions: object) -> Observed:
    return replace(state, ledger=replace(state.ledger, claims={d.uuid: claim(d) for d in definitions}))  # type: ignore[attr-defined]


def test_every_cpu_has_an_owner() -> None:
    settings = Settings(housekeeping=Housekeeping(cpus=frozenset({0}), at_least=1))
    state = settled(run(domain(WIN11, GPU, vcpus=4)), settings=settings)
    state = replace(
        state,
        topology=replace(state.topology, offline=frozenset({9}), isolated=frozenset({1, 6})),
    )
    found = owners(state, settings, decide(state, settings))
    assert kinds(found) == {
        0: "reserved",
        1: "isolated",
        2: "vcpu win11 0",
        3: "vcpu win11 2",
        4: "host",
        5: "host",
        6: "vcpu win11 1",
        7: "vcpu win11 3",
        9: "offline",
    }


def test_pins_of_a_definition_are_shown_as_such_and_a_pin_to_anywhere_is_none() -> None:
    mine = replace(domain(WORK, NIC, vcpus=2), vcpu_pins={0: frozenset({1}), 1: frozenset({2, 3})})
    anywhere = replace(domain(WIN11), cpuset=frozenset(range(8)))
    state = settled(run(mine), run(anywhere))
    found = kinds(owners(state, DEFAULTS, decide(state, DEFAULTS)))
    assert found[1] == "pinned work 0"
    assert found[2] == found[3] == "pinned work"
    assert not any("win11" in who for who in found.values())
    left = Settings(domains=DomainPolicy(cpus="off"))
    assert kinds(owners(state, left, decide(state, left)))[1] == "pinned work 0"


def test_an_odd_vcpus_sibling_is_idle() -> None:
    state = settled(run(domain(WIN11, GPU, vcpus=3)))
    assert "idle win11" in kinds(owners(state, DEFAULTS, decide(state, DEFAULTS))).values()


def test_modes_and_why() -> None:
    shared = told(settled(run(domain(WORK))), WORK)
    assert (shared.mode, shared.vcpus, shared.terms) == ("shared", None, ())
    assert shared.why.startswith("it has no PCI device")
    for mode in ("shared", "off"):
        settings = Settings(domains=DomainPolicy(cpus=mode))  # type: ignore[arg-type]
        found = told(settled(run(domain(WIN11, GPU)), settings=settings), WIN11, settings)
        assert (found.mode, found.why) == (mode, f'cpus = "{mode}" is set for it')
    pins = {i: frozenset({i}) for i in range(4)}
    pinned = told(settled(run(replace(domain(WIN11, GPU), vcpu_pins=pins))), WIN11)
    assert (pinned.mode, pinned.terms) == ("pinned", ())
    partly = told(settled(run(replace(domain(WIN11, GPU), vcpu_pins={0: frozenset({1})}))), WIN11)
    assert (partly.mode, partly.why) == (
        "dedicated",
        "its vCPUs 0 have pins of their own, which are left alone",
    )
    assert partly.vcpus is not None
    assert partly.vcpus[0] == frozenset({1})


def test_a_domain_that_floats_says_who_would_have_to_stop() -> None:
    state = starting(settled(run(domain(WIN11, GPU, vcpus=4))), domain(WORK, NIC, vcpus=4))
    found = told(state, WORK)
    assert (found.mode, found.vcpus) == ("floating", None)
    assert found.why == "4 CPUs needed, 2 free; stopping `win11` would free them"
    assert [(term.value, term.best) for term in found.terms] == [(4, 0)]
    assert outlines(state, DEFAULTS, decide(state, DEFAULTS))[WORK] == replace(found, why="", terms=())


def test_terms_name_domains_that_are_in_the_way_and_are_pinned_by_their_own_definition() -> None:
    mine = replace(domain(WORK, vcpus=2), vcpu_pins={0: frozenset({1}), 1: frozenset({3})})
    state = starting(settled(run(mine)), domain(WIN11, GPU, vcpus=4))
    terms = {term.term: term for term in told(state, WIN11).terms}
    assert terms["l3_span"].missed or terms["smt"].missed
    assert any("stopping `work` would" in term.why for term in terms.values())


def test_a_start_that_is_refused_is_placed_all_the_same() -> None:
    state = starting(settled(run(domain(WORK, GPU, vcpus=2))), domain(WIN11, GPU, vcpus=4))
    plan = decide(state, DEFAULTS)
    assert any(refusal.claim == WIN11 for refusal in plan.refusals)
    assert WIN11 not in {placement.uuid for placement in plan.placements}
    found = Explained(state, DEFAULTS, plan, [WIN11])
    explanation = found.of(WIN11)
    assert explanation is not None
    assert explanation.mode == "dedicated"
    shown = kinds(found.owners())
    own = {cpu for cpu, who in shown.items() if "host" not in who}
    assert {cpu for cpu in own if "win11" in shown[cpu]} == frozenset().union(*(explanation.vcpus or ()))
    assert found.housekeeping == frozenset(range(8)) - own
    assert Explained(state, DEFAULTS, plan).of(WIN11) is None


def test_what_a_start_moves_and_why() -> None:
    """`work` runs on the L3 domain that the host has nothing of, and another domain needs that one whole."""
    settings = Settings(housekeeping=Housekeeping(cpus=frozenset({0}), at_least=1))
    live = replace(domain(WORK, NIC, vcpus=2), vcpu_pins={0: frozenset({2}), 1: frozenset({6})})
    record = PinRecord(uuid=WORK, vcpus={0: "2", 1: "6"})
    alone = observed(
        running=(run(domain(WORK, NIC, vcpus=2), live), run(domain("plain"))),
        ledger=Ledger(pins={WORK: record}),
    )
    plan = decide(alone, settings)
    assert kinds(owners(alone, settings, plan))[2] == "vcpu work 0"
    assert not list(Explained(alone, settings, plan).moves(plan.housekeeping))
    state = starting(alone, domain(WIN11, GPU, vcpus=4))
    found = Explained(state, settings, decide(state, settings), [WIN11])
    moves = list(found.moves(plan.housekeeping))
    by_vcpu = {move.vcpu: (min(move.before), min(move.after)) for move in moves if move.domain == "work"}
    assert by_vcpu == {0: (2, 1), 1: (6, 5)}
    assert {move.why for move in moves if move.domain == "work"} == {
        "for `win11`, L3 domains: L3 2 instead of L3 domains 0 and 2"
    }
    floats = next(move for move in moves if move.domain == "plain")
    assert (floats.vcpu, floats.before, floats.after) == (
        None,
        frozenset({0, 1, 3, 4, 5, 7}),
        frozenset({0, 4}),
    )


@pytest.mark.parametrize("uuid", ["", "nobody"])
def test_who_is_not_there(uuid: str) -> None:
    state = settled(run(domain(WORK)))
    assert Explained(state, DEFAULTS, decide(state, DEFAULTS)).of(uuid) is None
