"""Whatever users, domains, vCPUs and the daemon's end do in which order: who pinned by hand keeps it, alone."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.daemon.decide.cards import GPU, WIN11, WORK, domain, observed
from tests.unit.daemon.decide.pinning.virt import (
    by_hand,
    changed,
    live,
    performed,
    run,
    settled,
    with_running,
)

from hostlerd.decide import decide
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Pin
from hostlerd.model.settings import DomainPolicy, Settings

SETTINGS = Settings(domains=DomainPolicy(cpus="dedicated", emulator=1))
NAMES = {"win11": WIN11, "work": WORK}

names = st.sampled_from(sorted(NAMES))
cpus = st.integers(0, 7)
acts = st.one_of(
    st.tuples(st.just("hand"), names, st.integers(0, 1), cpus),
    st.tuples(st.just("emulator"), names, st.just(0), cpus),
    st.tuples(st.just("plug"), names, st.just(0), st.sampled_from([1, 2])),
    st.tuples(st.just("cut"), names, st.just(0), st.integers(1, 3)),
    st.tuples(st.just("restart"), names, st.just(0), st.just(0)),
)


def started(state: Observed, name: str) -> Observed:
    """Stopped, its record closed, and started anew with a vCPU plugged and one to come."""
    others = [d for d in state.snapshot.running if d.name != name]
    definition = domain(NAMES[name], *([GPU] if name == "win11" else []), vcpus=2)
    records = {uuid: record for uuid, record in state.ledger.pins.items() if uuid != NAMES[name]}
    return with_running(
        replace(state, ledger=replace(state.ledger, pins=records)),
        *others,
        run(replace(definition, topology=None)),
    )


def cut(state: Observed, steps: int) -> Observed:
    """kill -9 after so many pins of a plan: the journal has them, and the next one too."""
    plan = decide(state, SETTINGS)
    pins = [step for step in plan.steps if isinstance(step, Pin)]
    done = performed(state, replace(plan, steps=tuple(pins[:steps])))
    journalled = performed(state, replace(plan, steps=tuple(pins[: steps + 1])))
    return replace(done, ledger=journalled.ledger)


@settings(deadline=None)
@given(st.lists(acts, max_size=12))
def test_by_hand_stays_by_hand(history: list[tuple[str, str, int, int]]) -> None:
    state = settled(started(started(observed(), "win11"), "work"), SETTINGS)
    hand: dict[tuple[str, str, int], CpuSet] = {}
    for what, name, index, number in history:
        match what:
            case "hand" | "emulator":
                thread = "vcpu" if what == "hand" else "emulator"
                if thread == "vcpu" and index >= live(state, name).vcpus:
                    continue
                before = live(state, name)
                now = before.vcpu_pins.get(index) if thread == "vcpu" else before.emulator_pins
                if now == {number}:
                    continue  # nobody can tell
                state = by_hand(state, name, thread, index, {number})
                hand[name, thread, index] = frozenset({number})
            case "plug":
                state = changed(state, name, lambda d, n=number: replace(d, vcpus=n, max_vcpus=2))
            case "cut":
                state = cut(state, number)
            case _:
                state = started(state, name)
                hand = {key: pin for key, pin in hand.items() if key[0] != name}
        state = settled(state, SETTINGS)
        for (owner, thread, number_), pin in hand.items():
            found = live(state, owner)
            assert (found.vcpu_pins.get(number_) if thread == "vcpu" else found.emulator_pins) == pin
        plan = decide(state, SETTINGS)
        assert plan.notes.keys() == {
            NAMES[owner]
            for owner, thread, number_ in hand
            if thread == "emulator" or number_ < live(state, owner).vcpus
        }
        held = {  # CPUs that we gave to a vCPU, to whose
            min(live(state, d.name).vcpu_pins[i]): d.name
            for d in state.snapshot.running
            for i in range(live(state, d.name).vcpus)
            if (d.name, "vcpu", i) not in hand and len(live(state, d.name).vcpu_pins[i]) == 1
        }
        for (owner, thread, number_), pin in hand.items():
            if thread == "emulator" or number_ < live(state, owner).vcpus:
                assert not pin & held.keys()
