"""Pins: whose they are, where they belong, and which still differ. Through the whole decision."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.daemon.decide.cards import GPU, NIC, WIN11, WORK, claim, domain, observed
from tests.unit.daemon.decide.pinning.virt import performed, pins, run

from hostlerd.decide import decide
from hostlerd.model.cpuset import format_cpu_list, parse_cpu_list
from hostlerd.model.domains import Running
from hostlerd.model.ledger import Ledger
from hostlerd.model.plan import Pin
from hostlerd.model.settings import DomainPolicy, Housekeeping, Settings

DEFAULTS = Settings()


def test_guest_cores_get_host_cores_within_one_l3():
    plan = decide(observed(running=(run(domain(WIN11, GPU, vcpus=4)),)), DEFAULTS)
    found = pins(plan)
    cpus = [int(str(found[f"win11/vcpu{i}"])) for i in range(4)]
    assert cpus[0] % 4 == cpus[1] % 4
    assert cpus[2] % 4 == cpus[3] % 4
    assert len({c % 4 // 2 for c in cpus}) == 1
    assert plan.dedicated == frozenset(cpus)
    assert found["win11/emulator"] == format_cpu_list(plan.housekeeping)


def test_a_second_decision_on_its_own_result_moves_nothing():
    state = observed(running=(run(domain(WIN11, GPU)), run(domain(WORK, NIC, vcpus=2))))
    plan = decide(state, DEFAULTS)
    assert not pins(decide(performed(state, plan), DEFAULTS))


def test_a_domain_without_a_pci_hostdev_is_left_alone_until_cpus_are_dedicated():
    state = observed(running=(run(domain(WORK)),))
    assert not pins(decide(state, DEFAULTS))
    both = observed(running=(run(domain(WORK)), run(domain(WIN11, GPU))))
    plan = decide(both, DEFAULTS)
    shared = {v for k, v in pins(plan).items() if k.startswith("work/")}
    assert shared == {format_cpu_list(plan.housekeeping)}


def test_a_shared_domain_gets_all_cpus_back():
    state = observed(running=(run(domain(WORK)), run(domain(WIN11, GPU))))
    state = performed(state, decide(state, DEFAULTS))
    alone = replace(
        state,
        snapshot=replace(
            state.snapshot, running=tuple(d for d in state.snapshot.running if d.name == "work")
        ),
    )
    assert set(pins(decide(alone, DEFAULTS)).values()) == {"0-7"}


def test_explicit_pins_are_never_overridden_and_nobody_else_is_put_there():
    mine = replace(domain(WORK, NIC, vcpus=2), vcpu_pins={0: frozenset({1}), 1: frozenset({5})})
    plan = decide(observed(running=(run(mine), run(domain(WIN11, GPU)))), DEFAULTS)
    found = pins(plan)
    assert "work/vcpu0" not in found
    assert "work/vcpu1" not in found
    others = frozenset().union(
        *(parse_cpu_list(str(v)) for k, v in found.items() if k.startswith("win11/vcpu"))
    )
    assert not others & {1, 5}


def test_our_own_live_pins_are_not_taken_for_the_users():
    definition = domain(WIN11, GPU)
    state = observed(running=(run(definition),))
    state = performed(state, decide(state, DEFAULTS))
    transient = replace(
        state,
        snapshot=replace(state.snapshot, running=(replace(state.snapshot.running[0], definition=None),)),
    )
    for restarted in (state, transient):
        plan = decide(restarted, DEFAULTS)
        assert not pins(plan)
        assert not plan.placements[0].explicit


def test_a_transient_domains_explicit_pins_come_from_its_hook():
    mine = replace(domain(WIN11, GPU), vcpu_pins={0: frozenset({3})})
    running = Running(live=mine, definition=None)
    state = observed(None, claim(mine, prepared=True), running=(running,))
    assert "win11/vcpu0" not in pins(decide(state, DEFAULTS))
    unseen = observed(running=(running,))
    assert "win11/vcpu0" not in pins(decide(unseen, DEFAULTS))


def test_the_host_keeps_what_policy_says():
    settings = Settings(housekeeping=Housekeeping(cpus=frozenset({0, 4}), at_least=4))
    plan = decide(observed(running=(run(domain(WIN11, GPU, vcpus=4)),)), settings)
    assert frozenset({0, 4}) <= plan.housekeeping
    assert len(plan.housekeeping) >= 4
    too_big = decide(observed(running=(run(domain(WIN11, GPU, vcpus=6)),)), settings)
    assert not too_big.dedicated
    [refusal] = too_big.refusals
    assert "gets no CPUs of its own" in refusal.reason
    assert refusal.claim is None  # it starts all the same


def test_housekeeping_cpus_that_the_host_does_not_have_are_said():
    policy = Settings(housekeeping=Housekeeping(cpus=frozenset({0, 98, 99})))
    (refusal,) = decide(observed(), policy).refusals
    assert refusal.object == "housekeeping"
    assert "names CPUs 98-99" in refusal.reason


def test_explicit_pins_over_everything_do_not_starve_the_host():
    mine = replace(domain(WIN11, GPU, vcpus=8), vcpu_pins={i: frozenset({i}) for i in range(8)})
    plan = decide(observed(running=(run(mine),)), DEFAULTS)
    assert not plan.isolated
    assert any("must keep" in r.reason for r in plan.refusals)
    assert not [k for k in pins(plan) if "vcpu" in k]


def test_policy_can_keep_hands_off_and_can_dedicate_without_a_device():
    off = Settings(overrides={"win11": DomainPolicy(cpus="off")})
    assert not pins(decide(observed(running=(run(domain(WIN11, GPU)),)), off))
    on = Settings(overrides={WORK: DomainPolicy(cpus="dedicated")})
    assert decide(observed(running=(run(domain(WORK)),)), on).dedicated


def test_profile_none_pins_without_isolating():
    settings = Settings(domains=DomainPolicy(profile="none"))
    plan = decide(observed(running=(run(domain(WIN11, GPU)),)), settings)
    assert pins(plan)
    assert not plan.isolated
    assert "allowed-cpus" not in {s.kind for s in plan.steps}


def test_isolation_comes_at_prepare_and_pins_when_the_guest_runs():
    plan = decide(observed(None, claim(domain(WIN11, GPU))), DEFAULTS)
    assert "allowed-cpus" in {s.kind for s in plan.steps}
    assert not pins(plan)


def test_a_refused_start_isolates_nothing():
    plan = decide(observed(None, claim(domain(WIN11, "0000:99:00.0"))), DEFAULTS)
    assert plan.refusals
    assert not plan.steps
    assert not plan.dedicated


def test_iothreads_and_emulator_stay_with_the_host_unless_pinned():
    definition = replace(
        domain(WIN11, GPU), iothreads=2, iothread_ids=(1, 2), iothread_pins={2: frozenset({7})}
    )
    plan = decide(observed(running=(run(definition),)), DEFAULTS)
    found = pins(plan)
    assert found["win11/iothread1"] == format_cpu_list(plan.housekeeping)
    assert "win11/iothread2" not in found
    pinned = replace(definition, emulator_pins=frozenset({0}))
    assert "win11/emulator" not in pins(decide(observed(running=(run(pinned),)), DEFAULTS))


def test_a_domain_that_is_gone_closes_its_record():
    state = observed(running=(run(domain(WIN11, GPU)),))
    state = performed(state, decide(state, DEFAULTS))
    gone = replace(state, snapshot=replace(state.snapshot, running=()))
    assert WIN11 in decide(gone, DEFAULTS).settled
    unknown = replace(gone, snapshot=replace(gone.snapshot, known=False))
    assert WIN11 not in decide(unknown, DEFAULTS).settled


def test_converged_is_converged():
    assert decide(observed(ledger=Ledger()), DEFAULTS).converged


def test_pinned_in_the_definition_alone_it_keeps_the_cpu_it_is_on():
    """`virsh vcpupin --config` of a domain that runs: until its next start the vCPU is where we pinned it."""
    state = observed(running=(run(domain(WIN11, GPU, vcpus=2)),))
    state = performed(state, decide(state, DEFAULTS))
    [running] = state.snapshot.running
    here = running.live.vcpu_pins[0]
    elsewhere = frozenset(
        {cpu for cpu in range(8) if all(cpu not in c for c in running.live.vcpu_pins.values())}
    )
    pinned = replace(domain(WIN11, GPU, vcpus=2), vcpu_pins={0: frozenset({max(elsewhere)})})
    other = run(domain(WORK, NIC, vcpus=2))
    state = replace(
        state, snapshot=replace(state.snapshot, running=(replace(running, definition=pinned), other))
    )
    found = pins(decide(state, DEFAULTS))
    assert "win11/vcpu0" not in found
    for vcpu in range(2):
        assert not parse_cpu_list(str(found[f"work/vcpu{vcpu}"])) & (here | {max(elsewhere)})


def test_hands_off_gives_the_cpus_back():
    dedicated = DomainPolicy(cpus="dedicated")
    off = Settings(domains=dedicated, overrides={WIN11: DomainPolicy(cpus="off")})
    state = observed(running=(run(domain(WIN11, vcpus=4)),))
    state = performed(state, decide(state, Settings(domains=dedicated)))
    plan = decide(state, off)
    assert {f"win11/vcpu{i}": "0-7" for i in range(4)}.items() <= pins(plan).items()
    state = performed(state, plan)
    plan = decide(state, off)
    assert not plan.steps
    state = performed(state, plan)
    assert not decide(state, off).confirmed
    again = pins(decide(state, Settings(domains=dedicated)))
    assert {f"win11/vcpu{i}" for i in range(4)} <= again.keys()


def test_nobody_is_put_where_a_domain_that_is_left_alone_is_pinned():
    dedicated = DomainPolicy(cpus="dedicated")
    settings = Settings(domains=dedicated, overrides={WIN11: DomainPolicy(cpus="off")})
    mine = replace(domain(WIN11, vcpus=2), vcpu_pins={0: frozenset({1}), 1: frozenset({2})})
    plan = decide(observed(running=(run(mine), run(domain(WORK, vcpus=4)))), settings)
    found = pins(plan)
    assert not [name for name in found if name.startswith("win11")]
    assert not {found[f"work/vcpu{i}"] for i in range(4)} & {"1", "2"}


def test_a_move_that_failed_half_way_leaves_no_pin_that_looks_like_the_users():
    """A transient domain whose start we did not see: what is pinned and not recorded is taken for the user's."""
    dedicated = Settings(domains=DomainPolicy(cpus="dedicated"))
    transient = Running(live=domain(WIN11, vcpus=4), definition=None)
    state = observed(running=(transient,))
    state = performed(state, decide(state, dedicated))
    other = replace(domain(WORK, vcpus=4), vcpu_pins=dict(state.snapshot.running[0].live.vcpu_pins))
    state = replace(state, snapshot=replace(state.snapshot, running=(*state.snapshot.running, run(other))))
    plan = decide(state, dedicated)
    moves = [step for step in plan.steps if isinstance(step, Pin) and step.thread == "vcpu"]
    assert len(moves) > 1
    half = performed(state, replace(plan, steps=(moves[0],)))
    again = [s for s in decide(half, dedicated).steps if isinstance(s, Pin) and s.thread == "vcpu"]
    assert {s.object for s in again} >= {s.object for s in moves[1:]}


def test_a_snapshot_older_than_a_pin_does_not_undo_the_decision():
    """The host lane decides with what the libvirt lane saw before it pinned: the record says where the thread goes."""
    dedicated = Settings(domains=DomainPolicy(cpus="dedicated"))
    state = observed(running=(run(domain(WIN11, vcpus=2)),))
    state = performed(state, decide(state, dedicated))
    (place,) = decide(state, dedicated).placements
    there = {i: format_cpu_list(cpus) for i, cpus in enumerate(place.vcpus or ())}
    far = {0: "0", 1: "4"}
    assert far != there
    record = replace(state.ledger.pins[WIN11], vcpus={i: f"{there[i]} {far[i]}" for i in far})
    moving = replace(state, ledger=replace(state.ledger, pins={WIN11: record}))
    plan = decide(moving, dedicated)
    assert plan.placements[0].vcpus == (frozenset({0}), frozenset({4}))
    assert pins(plan) == {"win11/vcpu0": "0", "win11/vcpu1": "4"} | {
        name: cpus for name, cpus in pins(plan).items() if "vcpu" not in name
    }


def test_a_domain_whose_cpus_another_names_floats_where_there_is_no_room():
    dedicated = Settings(domains=DomainPolicy(cpus="dedicated"))
    state = observed(running=(run(domain(WIN11, vcpus=4)),))
    state = performed(state, decide(state, dedicated))
    [mine] = state.snapshot.running
    other = run(replace(domain(WORK, vcpus=4), vcpu_pins=dict(mine.live.vcpu_pins)))
    plan = decide(replace(state, snapshot=replace(state.snapshot, running=(mine, other))), dedicated)
    found = pins(plan)
    assert {found[f"win11/vcpu{i}"] for i in range(4)} == {format_cpu_list(plan.housekeeping)}
    assert not [name for name in found if name.startswith("work/vcpu")]
