"""Pins that libvirt shows and the kernel has forgotten."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.daemon.decide.cards import GPU, WIN11, domain, observed
from tests.unit.daemon.decide.pinning.virt import by_hand, on, performed, pins, run, settled, whys

from hostlerd.decide import decide
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Pin
from hostlerd.model.settings import Settings

DEFAULTS = Settings()
EVERY = frozenset(range(8))


def state() -> Observed:
    return settled(observed(running=(run(domain(WIN11, GPU, vcpus=2)),)), DEFAULTS)


def seen(found: Observed, **affinity: CpuSet) -> Observed:
    return replace(found, affinity={WIN11: {int(name[1:]): cpus for name, cpus in affinity.items()}})


def test_a_thread_that_may_run_elsewhere_is_pinned_again_and_told_why() -> None:
    found = state()
    plan = decide(seen(found, v0=EVERY, v1=on(found, "win11")[1]), DEFAULTS)
    assert pins(plan) == {"win11/vcpu0": format_cpu_list(on(found, "win11")[0])}
    assert "before 6.2" in whys(plan)["win11/vcpu0"]
    [step] = (step for step in plan.steps if isinstance(step, Pin))
    assert step.before == "0-7"
    assert not pins(decide(seen(performed(found, plan), v0=on(found, "win11")[0]), DEFAULTS))


def test_where_nothing_is_known_nothing_is_done() -> None:
    assert not pins(decide(seen(state()), DEFAULTS))


def test_fewer_cpus_than_we_said_are_fine() -> None:
    """A CPU of those that it floats on is off line."""
    found = state()
    assert not pins(decide(seen(found, v0=on(found, "win11")[0]), DEFAULTS))


def test_who_pinned_by_hand_looks_after_it() -> None:
    found = settled(by_hand(state(), "win11", "vcpu", 0, {7}), DEFAULTS)
    assert "win11/vcpu0" not in pins(decide(seen(found, v0=EVERY), DEFAULTS))


def test_what_changes_without_a_pin_is_recorded_all_the_same() -> None:
    found = state()
    record = found.ledger.pins[WIN11]
    stale = replace(found, ledger=replace(found.ledger, pins={WIN11: replace(record, idle="7")}))
    plan = decide(stale, DEFAULTS)
    assert not pins(plan)
    assert plan.confirmed == (record,)
    assert not decide(performed(stale, plan), DEFAULTS).confirmed
