"""Masks on dedicated CPUs, and the way back."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.daemon.decide.cards import groups, observed

from hostlerd.decide.isolation import decide_masks
from hostlerd.model.cpuset import parse_cpu_list
from hostlerd.model.isolation import Group, Groups
from hostlerd.model.ledger import Ledger
from hostlerd.model.observed import Observed
from hostlerd.model.plan import AllowCpus

ALL = frozenset(range(8))
DEDICATED = frozenset({1, 5})
HOST = ALL - DEDICATED


def perform(state: Observed, step: AllowCpus) -> Observed:
    """What systemd and the kernel do, with the record journalled."""
    units = tuple(
        replace(g, allowed=step.cpus, effective=step.cpus) if g.unit == step.object else g
        for g in state.groups.units
    )
    assert step.record is not None
    ledger = replace(state.ledger, groups={**state.ledger.groups, step.object: step.record})
    return replace(state, groups=Groups(units=units), ledger=ledger)


def apply(state: Observed, dedicated: frozenset[int]) -> Observed:
    for _ in range(3):
        steps, settled, _ = decide_masks(state, dedicated, ALL - dedicated)
        kept = {u: r for u, r in state.ledger.groups.items() if u not in settled}
        state = replace(state, ledger=replace(state.ledger, groups=kept))
        for step in steps:
            state = perform(state, step)
        if not steps and not settled:
            return state
    raise AssertionError("does not converge")


def masks(state: Observed) -> dict[str, frozenset[int]]:
    return {g.unit: g.allowed for g in state.groups.units}


def test_the_hosts_units_leave_dedicated_cpus_and_come_back_to_the_full_mask():
    isolated = apply(observed(), DEDICATED)
    assert masks(isolated) == {
        "init.scope": HOST,
        "system.slice": HOST,
        "user.slice": HOST,
        "machine.slice": frozenset(),
    }
    back = apply(isolated, frozenset())
    # Clearing the property would leave the old mask on (systemd#43846): the full one is written instead.
    assert masks(back) == {
        "init.scope": ALL,
        "system.slice": ALL,
        "user.slice": ALL,
        "machine.slice": frozenset(),
    }
    assert not back.ledger.groups


def test_what_had_to_stay_set_is_called_residue():
    isolated = apply(observed(groups=groups(system=frozenset({0, 1, 2}))), DEDICATED)
    steps, _, _ = decide_masks(isolated, frozenset(), ALL)
    assert {s.object: s.residue for s in steps} == {
        "init.scope": True,
        "system.slice": False,
        "user.slice": True,
    }


def test_a_units_own_mask_is_respected_and_restored():
    isolated = apply(observed(groups=groups(system=frozenset({0, 1, 2}))), DEDICATED)
    assert masks(isolated)["system.slice"] == frozenset({0, 2})
    assert masks(apply(isolated, frozenset()))["system.slice"] == frozenset({0, 1, 2})


def test_a_unit_only_on_dedicated_cpus_gets_the_hosts():
    isolated = apply(observed(groups=groups(user=DEDICATED)), DEDICATED)
    assert masks(isolated)["user.slice"] == HOST


def test_machine_slice_is_widened_first_and_narrowed_last():
    narrow = frozenset({0, 1})
    state = observed(groups=groups(machine=narrow))
    steps, _, _ = decide_masks(state, DEDICATED, HOST)
    assert steps[0].object == "machine.slice"
    assert steps[0].cpus == ALL
    isolated = apply(state, DEDICATED)
    back, _, _ = decide_masks(isolated, frozenset(), ALL)
    assert back[-1].object == "machine.slice"
    assert masks(apply(isolated, frozenset()))["machine.slice"] == narrow


def test_the_union_grows_and_shrinks():
    first = apply(observed(), DEDICATED)
    both = apply(first, DEDICATED | {2, 6})
    assert masks(both)["system.slice"] == parse_cpu_list("0,3,4,7")
    one = apply(both, DEDICATED)
    assert masks(one)["system.slice"] == HOST
    assert masks(apply(one, frozenset()))["system.slice"] == ALL


def test_containers_in_machine_slice_leave_dedicated_cpus_and_domains_do_not():
    pod = Group(
        unit="libpod-1.scope", allowed=frozenset(), effective=ALL, path="/sys/fs/cgroup/machine.slice/x"
    )
    qemu = Group(
        unit="machine-qemu\\x2d1\\x2dwin11.scope", allowed=frozenset(), effective=ALL, is_domain=True
    )
    state = observed(groups=Groups(units=(*groups().units, pod, qemu)))
    isolated = masks(apply(state, DEDICATED))
    assert isolated["libpod-1.scope"] == HOST
    assert isolated[qemu.unit] == frozenset()


def test_a_unit_that_went_away_is_settled():
    isolated = apply(observed(), DEDICATED)
    state = replace(isolated, groups=Groups(units=isolated.groups.units[:-2]))
    _, settled, _ = decide_masks(state, frozenset(), ALL)
    assert "user.slice" in settled


def test_a_mask_somebody_else_set_since_is_theirs():
    isolated = apply(observed(), DEDICATED)
    units = tuple(
        replace(g, allowed=frozenset({0})) if g.unit == "system.slice" else g for g in isolated.groups.units
    )
    steps, settled, _ = decide_masks(replace(isolated, groups=Groups(units=units)), frozenset(), ALL)
    assert "system.slice" in settled
    assert "system.slice" not in {s.object for s in steps}


def test_a_crash_between_journal_and_write_still_goes_back():
    state = observed(groups=groups(system=frozenset({0, 1, 2})))
    steps, _, _ = decide_masks(state, DEDICATED, HOST)
    records = {s.object: s.record for s in steps if s.record is not None}
    unwritten = replace(state, ledger=Ledger(groups=records))
    assert masks(apply(unwritten, frozenset())) == masks(state)


def test_control_groups_v1_are_refused_in_words():
    steps, settled, [refusal] = decide_masks(observed(groups=Groups(unified=False)), DEDICATED, HOST)
    assert not steps
    assert not settled
    assert "control groups v1" in refusal.reason
    assert "unified_cgroup_hierarchy" in refusal.remedy
    assert decide_masks(observed(groups=Groups(unified=False)), frozenset(), ALL) == ([], [], [])
