"""The steps there and back, and that a crash between any two of them ends well."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.daemon.decide.cards import AUDIO, GPU, USB, WIN11, card, claim, domain, observed

from hostlerd.decide.handoff import decide_handoff
from hostlerd.decide.ownership import decide_ownership
from hostlerd.decide.vfio import decide_vfio
from hostlerd.model.devices import Function
from hostlerd.model.ledger import DeviceRecord, Ledger
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Override, Probe, Step, Unbind
from hostlerd.model.settings import DevicePolicy, Match, Settings

CLAIM = claim(domain(WIN11, GPU))
HOME = {GPU: "amdgpu", AUDIO: "snd_hda_intel", USB: "xhci_hcd"}


def plan(state: Observed, settings: Settings | None = None) -> tuple[list[Step], list[str]]:
    settings = settings or Settings()
    own = decide_ownership(state, settings)
    handoff = decide_handoff(state, settings, own, decide_vfio(state, settings, own))
    assert not handoff.questions
    return handoff.steps, handoff.settled


def perform(state: Observed, step: Step) -> Observed:
    """What the kernel does with one step, with its record journalled."""
    ledger, functions = state.ledger, dict(state.functions)
    record = getattr(step, "record", None)
    if record is not None:
        ledger = replace(ledger, devices={**ledger.devices, step.object: record})
    function = functions.get(step.object)
    if isinstance(step, Override):
        functions[step.object] = replace(function, override=step.after)
    elif isinstance(step, Unbind):
        functions[step.object] = replace(function, driver=None, on_vfio=False)
    elif isinstance(step, Probe):
        driver = function.override or HOME.get(step.object)
        functions[step.object] = replace(function, driver=driver, on_vfio=driver == "vfio-pci")
    return replace(state, functions=functions, ledger=ledger)


def converge(state: Observed) -> Observed:
    for _ in range(6):
        steps, settled = plan(state)
        devices = {a: r for a, r in state.ledger.devices.items() if a not in settled}
        state = replace(state, ledger=replace(state.ledger, devices=devices))
        if not steps and not settled:
            return state
        for step in steps:
            state = perform(state, step)
    raise AssertionError("does not converge")


def test_the_order_is_override_all_unbind_all_probe_all():
    steps, _ = plan(observed(None, CLAIM))
    assert [s.kind for s in steps] == ["override"] * 3 + ["check-free"] + ["unbind"] * 3 + ["probe"] * 3
    assert all(s.claim == WIN11 for s in steps)


def test_the_module_is_loaded_first_where_it_is_missing():
    steps, _ = plan(observed(None, CLAIM, drivers=frozenset()))
    assert (steps[0].kind, steps[0].object) == ("load-module", "vfio-pci")


def test_a_device_already_on_vfio_is_left_alone_there_and_back():
    functions = card()
    for address in HOME:
        functions[address] = replace(functions[address], driver="vfio-pci", on_vfio=True, override="vfio-pci")
    assert plan(observed(functions, CLAIM)) == ([], [])
    assert plan(observed(functions)) == ([], [])


def test_the_way_back_aims_at_the_home_driver_and_clears_last():
    there = converge(observed(None, CLAIM))
    assert all(there.functions[a].on_vfio for a in HOME)
    released = replace(there, ledger=replace(there.ledger, claims={}))
    steps, _ = plan(released)
    mine = [(s.kind, s.after) for s in steps if s.object == GPU]
    assert mine == [
        ("override", "amdgpu"),
        ("unbind", None),
        ("check-alive", "alive"),
        ("probe", "amdgpu"),
        ("override", None),
    ]


def test_there_and_back_is_as_before():
    there = converge(observed(None, CLAIM))
    back = converge(replace(there, ledger=replace(there.ledger, claims={})))
    assert back.functions == card()
    assert not back.ledger.devices


@given(
    cut=st.integers(0, 9),
    cut_back=st.integers(0, 12),
    override=st.sampled_from([None, "amdgpu"]),
    bound=st.booleans(),
)
def test_a_crash_between_any_two_steps_ends_as_before(
    cut: int, cut_back: int, override: str | None, bound: bool
):
    functions = card()
    functions[GPU] = replace(functions[GPU], override=override, driver="amdgpu" if bound else None)
    state = observed(functions, CLAIM)
    for step in plan(state)[0][:cut]:
        state = perform(state, step)
    state = replace(state, ledger=replace(state.ledger, claims={}))  # the restart drops what was not prepared
    for step in plan(state)[0][:cut_back]:  # and dies again on the way back
        state = perform(state, step)
    assert converge(state).functions == functions


def test_a_card_that_went_away_is_no_error():
    there = converge(observed(None, CLAIM))
    functions = {a: f for a, f in there.functions.items() if a not in HOME}
    gone = replace(there, functions=functions, ledger=replace(there.ledger, claims={}))
    steps, settled = plan(gone)
    assert not steps
    assert set(settled) == set(HOME)


def test_another_card_in_the_slot_is_not_given_the_old_ones_driver():
    there = converge(observed(None, CLAIM))
    other = replace(there.functions[GPU], device=0x1234, driver="nouveau", on_vfio=False, override=None)
    state = replace(there, functions={**there.functions, GPU: other}, ledger=replace(there.ledger, claims={}))
    steps, settled = plan(state)
    assert GPU in settled
    assert not [s for s in steps if s.object == GPU]


def test_what_somebody_else_changed_meanwhile_is_theirs():
    there = converge(observed(None, CLAIM))
    foreign = replace(there.functions[GPU], override="my-driver", driver="my-driver", on_vfio=False)
    state = replace(
        there, functions={**there.functions, GPU: foreign}, ledger=replace(there.ledger, claims={})
    )
    steps, settled = plan(state)
    assert GPU in settled
    assert not [s for s in steps if s.object == GPU]


def test_an_untouchable_device_is_not_touched():
    record = DeviceRecord(address=GPU, driver="amdgpu", override=None)
    from hostlerd.model.ledger import Outstanding  # noqa: PLC0415

    ledger = Ledger(devices={GPU: record}, outstanding={1: Outstanding(number=1, kind="unbind", object=GPU)})
    assert plan(observed(None, ledger=ledger)) == ([], [])


def test_a_new_card_aimed_by_our_rule_goes_to_whatever_takes_it():
    settings = Settings(devices=(DevicePolicy(name="hot", match=Match(address=GPU), when_idle="vfio"),))
    functions: dict[str, Function] = {GPU: replace(card()[GPU], driver=None, override="vfio-pci")}
    state = observed(functions, rule="# rule")
    steps, _ = plan(state, settings)
    for step in steps:
        state = perform(state, step)
    assert state.functions[GPU].on_vfio
    assert state.ledger.devices[GPU].any_driver
    assert converge(state).functions[GPU] == replace(functions[GPU], driver="amdgpu", override=None)


@pytest.mark.parametrize("driver", ["amdgpu", None])
def test_when_idle_none_leaves_the_device_without_a_driver(driver: str | None):
    settings = Settings(devices=(DevicePolicy(name="off", match=Match(address=GPU), when_idle="none"),))
    functions = {GPU: replace(card()[GPU], driver=driver)}
    state = observed(functions)
    for step in plan(state, settings)[0]:
        state = perform(state, step)
    assert (state.functions[GPU].driver, state.functions[GPU].override) == (None, "none")
    assert plan(state, settings) == ([], [])
    assert converge(state).functions == functions


@pytest.mark.parametrize("change", [{"readable": False}, {"leaving": True}])
def test_what_could_not_be_read_is_neither_moved_nor_forgotten(change: dict[str, bool]):
    """It was degraded when the look began, and trusted again before it was decided; or the kernel is at it."""
    there = converge(observed(None, CLAIM))
    for claims in ({WIN11: CLAIM}, {}):
        nothing = {"vendor": 0, "device": 0, "class_code": 0} if "readable" in change else {}
        blind = replace(there.functions[GPU], override=None, driver=None, **change, **nothing)  # type: ignore[arg-type]
        state = replace(
            there, functions={**there.functions, GPU: blind}, ledger=replace(there.ledger, claims=claims)
        )
        steps, settled = plan(state)
        assert GPU not in settled
        assert GPU not in {step.object for step in steps}
