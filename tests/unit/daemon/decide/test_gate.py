"""What stands between a claim and its devices: who is refused for, stopped, ended; in which order it is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.daemon.decide.cards import AUDIO, GPU, NIC, USB, WIN11, card, domain, observed

from hostlerd.decide.gate import DISPLAY_MANAGER, LASTING, Gate, decide_gate
from hostlerd.model.holders import Grip, Holder, Module
from hostlerd.model.ledger import Ledger, StoppedRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Stop, Terminate
from hostlerd.model.settings import DevicePolicy, Match, Settings

TAKE = {GPU: "hostdev", AUDIO: "companion", USB: "companion"}


def holder(**more: Any) -> Holder:
    values: dict[str, Any] = {
        "address": GPU,
        "pid": 42,
        "command": "ollama",
        "user": "root",
        "unit": "ollama.service",
        "container": None,
        "node": "/dev/dri/card0",
        "start": 7,
        **more,
    }
    return Holder(**values)


def policy(**more: Any) -> Settings:
    return Settings(devices=(DevicePolicy(name="gaming", match=Match(address=GPU), **more),))


def held(*found: Holder, **more: Any) -> Observed:
    everyone = {address: tuple(h for h in found if h.address == address) for address in card()}
    return observed(None, holders=everyone, units={"ollama.service": "active"}, **more)


def gate(state: Observed, settings: Settings | None = None) -> Gate:
    return decide_gate(state, settings or Settings(), domain(WIN11, GPU), TAKE, (GPU,))


def test_who_has_it_open_is_asked_first():
    asked = gate(observed(None, holders={}))
    assert [(q.kind, q.object) for q in asked.questions] == [("holders", a) for a in (GPU, AUDIO, USB)]
    assert not asked.steps
    assert not asked.refusals


def test_nothing_is_asked_of_what_has_left_its_driver():
    functions = card()
    for address in TAKE:
        functions[address] = replace(functions[address], driver="vfio-pci", on_vfio=True)
    found = gate(observed(functions, holders={}))
    assert (found.questions, found.steps, found.refusals) == ([], [], [])


def test_refused_for_each_holder_once():
    found = gate(held(holder(), holder(node="/dev/dri/renderD128"), holder(pid=43, command="Xorg")))
    assert [r.object for r in found.refusals] == [GPU, GPU]
    assert all(r.in_use and r.claim == WIN11 for r in found.refusals)
    assert "ollama (process 42, user root, ollama.service)" in found.refusals[0].reason


@pytest.mark.parametrize(
    ("node", "command", "refused"),
    [
        ("/dev/snd/controlC1", "wireplumber", False),
        ("/dev/snd/controlC1", "alsamixer", True),
        ("/dev/snd/pcmC1D3p", "pipewire", True),
        ("/dev/input/event9", "systemd-logind", False),
        ("/dev/bus/usb/003/002", "usbmuxd", False),
        ("/dev/labgpu0", "cat", True),
    ],
)
def test_which_handles_a_driver_waits_for(node: str, command: str, refused: bool):
    assert bool(gate(held(holder(node=node, command=command))).refusals) is refused


def test_a_companion_follows_the_policy_of_its_card():
    found = gate(held(holder(address=AUDIO, node="/dev/snd/pcmC1D0p")), policy(holders="terminate"))
    [step] = found.steps
    assert isinstance(step, Terminate)
    assert (step.pid, step.start) == (42, 7)


def test_a_unit_is_stopped_with_its_record():
    [step] = gate(held(holder()), policy(holders="stop", holder_limit=3.0)).steps
    assert isinstance(step, Stop)
    assert (step.object, step.limit) == ("ollama.service", 3.0)
    assert step.record == StoppedRecord(name="ollama.service", device=GPU, claim=WIN11)


def test_a_container_is_its_engines_to_stop():
    found = holder(unit="docker-abc.scope", container="abc", engine="docker")
    [step] = gate(held(found), policy(holders="stop")).steps
    assert isinstance(step, Stop)
    assert step.container is not None
    assert step.container.engine == "docker"


def test_a_container_that_is_a_service_is_stopped_as_one():
    found = holder(container="abc", engine="podman")
    [step] = gate(held(found), policy(holders="stop")).steps
    assert isinstance(step, Stop)
    assert (step.object, step.container) == ("ollama.service", None)


def test_what_was_stopped_for_this_start_and_is_back_refuses_it():
    ledger = Ledger(stopped={"ollama.service": StoppedRecord(name="ollama.service", device=GPU, claim=WIN11)})
    state = replace(held(holder()), ledger=ledger)
    found = gate(state, policy(holders="stop"))
    assert not found.steps
    assert "although it was stopped" in found.refusals[0].reason


def test_the_session_on_the_screen_ends_with_the_display_manager():
    session = holder(unit="session-2.scope", session="2", command="kwin")
    state = replace(held(session), units={DISPLAY_MANAGER: "active"})
    [step] = gate(state, policy(holders="stop")).steps
    assert step.object == DISPLAY_MANAGER
    none = replace(state, units={DISPLAY_MANAGER: "inactive"})
    assert gate(none, policy(holders="stop")).refusals


@pytest.mark.parametrize("unit", sorted(LASTING))
def test_what_the_host_needs_is_never_stopped_or_ended(unit: str):
    for way in ("stop", "terminate"):
        found = gate(replace(held(holder(unit=unit)), units={DISPLAY_MANAGER: ""}), policy(holders=way))
        assert not found.steps
        assert found.refusals
        assert "part of the host" in found.refusals[0].remedy


def test_what_is_mounted_is_nobodys_to_end():
    kernel = holder(pid=0, command="kernel: mounted at /home", unit=None)
    found = gate(held(kernel), policy(holders="terminate"))
    assert not found.steps
    assert "mounted at /home" in found.refusals[0].reason


def test_units_of_the_policy_go_first_and_only_those_that_run():
    settings = policy(units=("a.service", "b.service"), holders="stop")
    state = observed(None, holders={}, units={"a.service": "active", "b.service": "inactive"})
    found = gate(state, settings)
    assert [step.object for step in found.steps] == ["a.service"]
    assert not found.questions


def references(count: int, **more: Any) -> Observed:
    module = Module(name="amdgpu", refcount=count)
    return replace(held(), grips={GPU: Grip(address=GPU, modules=(module,), **more)})


def test_a_module_that_nothing_explains_refuses():
    assert "module amdgpu, 2 times" in gate(references(2)).refusals[0].reason
    assert not gate(references(0)).refusals


def test_a_module_that_something_explains_does_not():
    assert not gate(references(2, framebuffers=("fb0",), consoles=("vtcon1",))).refusals
    assert not gate(references(2), policy(leave="unbind")).refusals
    second = {**card(), NIC: replace(card()[NIC], driver="amdgpu")}
    assert not gate(replace(references(2), functions=second)).refusals


def test_a_disk_that_others_are_built_on_refuses():
    state = replace(held(), grips={GPU: Grip(address=GPU, members=("nvme0n1p2 of dm-0",))})
    assert "nvme0n1p2 is part of dm-0" in gate(state).refusals[0].reason


POLICIES = st.sampled_from(["refuse", "stop", "terminate"])
HOLDERS = st.builds(
    holder,
    address=st.sampled_from([GPU, AUDIO, USB, NIC]),
    pid=st.integers(0, 5),
    node=st.sampled_from(["/dev/dri/card0", "/dev/snd/pcmC0D0p", "/dev/input/event1", "/dev/snd/controlC0"]),
    unit=st.sampled_from([None, "ollama.service", "systemd-logind.service", "session-1.scope"]),
    session=st.sampled_from([None, "1"]),
)


@given(
    st.lists(HOLDERS, max_size=5),
    POLICIES,
    st.dictionaries(st.sampled_from(["ollama.service"]), st.sampled_from(["active", ""])),
)
def test_the_way_is_free_only_where_nobody_blocks(found: list[Holder], way: str, units: dict[str, str]):
    """Nothing to do and nothing to ask means that nobody in `take` has a handle that a driver waits for."""
    everyone = {address: tuple(h for h in found if h.address == address) for address in card()}
    state = observed(None, holders=everyone, units={**units, DISPLAY_MANAGER: ""})
    one = gate(state, policy(holders=way))
    free = not (one.refusals or one.steps or one.questions)
    assert free == (not any(h.blocks for h in found if h.address in TAKE))
    assert all(not isinstance(step, Terminate) or step.pid for step in one.steps)
    assert one == gate(state, policy(holders=way))
