"""What runs stays where it is, as far as it can: vCPUs that come and go, CPUs that do, and domains that never move."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.daemon.decide.cards import GPU, NIC, WIN11, WORK, domain, observed
from tests.unit.daemon.decide.pinning.virt import changed, on, pins, run, settled, with_running

from hostlerd.decide import decide
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.domains import Definition
from hostlerd.model.observed import Observed
from hostlerd.model.settings import DomainPolicy, Housekeeping, Settings

DEFAULTS = Settings()


def plugged(state: Observed, name: str, vcpus: int) -> Observed:
    """`virsh setvcpus NAME N --live`: what has been pinned once is pinned so again when it comes back."""
    return changed(state, name, lambda live: replace(live, vcpus=vcpus))


def without(state: Observed, *cpus: int) -> Observed:
    gone = frozenset(cpus)
    topology = replace(
        state.topology, cpus=tuple(c for c in state.topology.cpus if c.id not in gone), offline=gone
    )
    return replace(state, topology=topology)


def four_of(uuid: str, *addresses: str, vcpus: int) -> Definition:
    return replace(domain(uuid, *addresses, vcpus=4), vcpus=vcpus)


def distinct(found: dict[int, CpuSet], count: int) -> bool:
    return len(found) == count == len(frozenset().union(*found.values()))


def test_a_vcpu_that_is_plugged_in_gets_a_cpu_and_the_others_stay() -> None:
    state = settled(observed(running=(run(four_of(WIN11, GPU, vcpus=2)),)), DEFAULTS)
    before = on(state, "win11")
    state = settled(plugged(state, "win11", 4), DEFAULTS)
    assert distinct(on(state, "win11"), 4)
    assert before.items() <= on(state, "win11").items()


def test_a_vcpu_that_comes_back_with_its_old_pin_is_not_taken_for_pinned_by_hand() -> None:
    state = settled(observed(running=(run(four_of(WIN11, GPU, vcpus=4)),)), DEFAULTS)
    state = settled(plugged(state, "win11", 2), DEFAULTS)
    assert len(decide(state, DEFAULTS).dedicated) == 2
    state = plugged(state, "win11", 4)
    assert not decide(state, DEFAULTS).notes
    assert distinct(on(settled(state, DEFAULTS), "win11"), 4)


def test_its_definitions_pin_of_a_vcpu_that_is_plugged_in_is_kept() -> None:
    mine = replace(four_of(WIN11, GPU, vcpus=2), vcpu_pins={3: frozenset({7})})
    state = settled(observed(running=(run(mine),)), DEFAULTS)
    state = plugged(state, "win11", 4)
    assert not decide(state, DEFAULTS).notes
    state = settled(state, DEFAULTS)
    assert on(state, "win11")[3] == {7}
    assert distinct(on(state, "win11"), 4)


def test_a_cpu_that_goes_off_line_is_replaced_and_the_other_vcpus_stay() -> None:
    state = settled(observed(running=(run(domain(WIN11, GPU, vcpus=2)),)), DEFAULTS)
    [lost, kept] = (min(cpus) for cpus in on(state, "win11").values())
    state = without(state, lost)
    found = on(settled(state, DEFAULTS), "win11")
    assert distinct(found, 2)
    assert found[0] != {lost}
    assert len(pins(decide(state, DEFAULTS))) <= 3
    assert kept


def test_a_domain_that_no_cpus_are_left_for_floats_and_gets_them_again() -> None:
    state = settled(observed(running=(run(domain(WIN11, GPU, vcpus=4)),)), DEFAULTS)
    few = without(state, 0, 1, 2, 3)
    floating = settled(few, DEFAULTS)
    assert set(on(floating, "win11").values()) == {frozenset({4, 5, 6, 7})}
    back = settled(replace(floating, topology=state.topology), DEFAULTS)
    assert distinct(on(back, "win11"), 4)


def test_what_is_not_to_be_rebalanced_is_pinned_once_and_never_moved() -> None:
    """Both were better off elsewhere; only who may be moved is."""
    still = Settings(overrides={"win11": DomainPolicy(rebalance=False)})
    first = run(domain(WIN11, GPU, vcpus=2))
    small = [f"11111111-0000-4000-8000-00000000000{n}" for n in (1, 2)]
    others = [run(domain(uuid, vcpus=2, wishes={"cpus": "dedicated"})) for uuid in small]
    state = settled(observed(running=(*others, first)), still)
    before = on(state, "win11")
    assert distinct(before, 2)
    # The small ones go, a big one comes, a CPU leaves: nothing of it is a reason to move.
    alone = tuple(d for d in state.snapshot.running if d.name == "win11")
    state = settled(with_running(state, *alone), still)
    assert on(state, "win11") == before
    state = settled(with_running(state, *state.snapshot.running, run(domain(WORK, NIC, vcpus=4))), still)
    assert on(state, "win11") == before
    elsewhere = max(cpu for cpu in range(8) if all(cpu not in cpus for cpus in before.values()))
    state = settled(without(state, elsewhere), still)
    assert on(state, "win11") == before


def test_what_may_be_moved_is_where_another_gains_by_it() -> None:
    """One vCPU in each L3 domain: a newcomer of four fits into one only if somebody moves."""
    small = [
        run(replace(domain(f"11111111-0000-4000-8000-00000000000{n}", vcpus=1), topology=None))
        for n in (1, 2)
    ]
    everybody = Settings(domains=DomainPolicy(cpus="dedicated", rebalance=False))
    state = settled(observed(running=tuple(small)), everybody)
    before = {d.name: on(state, d.name) for d in small}
    assert len({min(cpus) % 4 // 2 for found in before.values() for cpus in found.values()}) == 2
    newcomer = run(domain(WIN11, GPU, vcpus=4))
    crowded = with_running(state, *state.snapshot.running, newcomer)
    still = settled(crowded, everybody)
    assert {d.name: on(still, d.name) for d in small} == before
    moving = settled(crowded, Settings(domains=DomainPolicy(cpus="dedicated")))
    assert {d.name: on(moving, d.name) for d in small} != before
    assert len({min(cpus) % 4 // 2 for cpus in on(moving, "win11").values()}) == 1


def test_a_burst_of_domains_is_one_plan() -> None:
    many = [run(domain(f"11111111-0000-4000-8000-00000000000{n}", vcpus=2)) for n in (1, 2, 3)]
    settings = Settings(domains=DomainPolicy(cpus="dedicated"))
    plan = decide(observed(running=tuple(many)), settings)
    vcpus = [cpus for name, cpus in pins(plan).items() if "/vcpu" in name]
    assert len(vcpus) == 6 == len(set(vcpus))


def test_a_vcpu_that_comes_back_drives_nobody_away() -> None:
    """Its old CPU is another domain's by now, and neither may be moved."""
    never = Settings(
        housekeeping=Housekeeping(cpus=frozenset({0, 4})),
        domains=DomainPolicy(cpus="dedicated", rebalance=False),
    )
    first = "11111111-0000-4000-8000-000000000001"
    state = settled(observed(running=(run(replace(domain(first, vcpus=3), max_vcpus=3)),)), never)
    state = settled(changed(state, first, lambda live: replace(live, vcpus=2)), never)
    state = settled(with_running(state, *state.snapshot.running, run(domain(WORK, NIC, vcpus=3))), never)
    before = on(state, "work")
    assert len(before) == 3
    state = settled(changed(state, first, lambda live: replace(live, vcpus=3)), never)
    assert on(state, "work") == before
