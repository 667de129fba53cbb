"""Which USB device goes where, and which is taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.daemon.decide.cards import WIN11, WORK, claim, domain, observed

from hostlerd.decide import decide
from hostlerd.decide.usb import decide_usb
from hostlerd.model.domains import Definition, Hostdev, Running
from hostlerd.model.ledger import Claim, Ledger, Outstanding, Trouble
from hostlerd.model.observed import Observed
from hostlerd.model.plan import AttachUsb, DetachUsb
from hostlerd.model.settings import Settings, UsbMatch, UsbPolicy
from hostlerd.model.usb import UsbDevice, UsbSource

STICK = UsbDevice(
    port="1-2.3",
    bus=1,
    number=5,
    vendor=0x0951,
    product=0x1666,
    serial="A",
    drivers=("usb-storage",),
    controller="0000:00:14.0",
)
TWIN = replace(STICK, port="1-4", number=6, serial="B")
KEYS = UsbDevice(port="2-1", bus=2, number=2, vendor=0x046D, product=0xC31C, drivers=("usbhid",))
NAMES = {WIN11: "win11", WORK: "work"}


def with_usb(uuid: str, *sources: UsbSource) -> Definition:
    hostdevs = tuple(Hostdev(kind="usb", source=f"{i}", usb=source) for i, source in enumerate(sources))
    return replace(domain(uuid), hostdevs=hostdevs)


def running(
    uuid: str = WIN11, *sources: UsbSource, defined: tuple[UsbSource, ...] = (), state: str = "running"
) -> Running:
    return Running(live=with_usb(uuid, *sources), definition=with_usb(uuid, *defined), state=state)


def held(device: UsbDevice, *, ours: bool = True) -> UsbSource:
    """In a running domain's XML."""
    return UsbSource(
        vendor=device.vendor,
        product=device.product,
        bus=device.bus,
        number=device.number,
        mark=device.mark if ours else "hostdev0",
    )


def named(device: UsbDevice) -> UsbSource:
    """In a definition."""
    return UsbSource(vendor=device.vendor, product=device.product)


def host(*devices: UsbDevice, domains: tuple[Running, ...] = (), claims: tuple[Claim, ...] = ()) -> Observed:
    return observed(None, *claims, running=domains, usb={device.port: device for device in devices})


def rules(to: str = "win11", **match: object) -> Settings:
    asked = UsbMatch(**(match or {"vendor": 0x0951}))  # type: ignore[arg-type]
    return Settings(usb=(UsbPolicy(name="sticks", match=asked, domain=to),))


def moves(state: Observed, policy: Settings) -> list[tuple[str, str, str | None]]:
    return [(step.kind, step.object, step.after) for step in decide_usb(state, policy)[0]]


def reasons(state: Observed, policy: Settings) -> list[str]:
    return [refusal.reason for refusal in decide_usb(state, policy)[1]]


ATTACH = [("attach-usb", "usb 1-2.3", "win11")]


@pytest.mark.parametrize(
    "match",
    [
        {"vendor": 0x0951},
        {"vendor": 0x0951, "product": 0x1666},
        {"serial": "A"},
        {"port": "1-2.3"},
        {"port": "pci-0000:00:14.0-usb-0:2.3"},
        {"vendor": 0x0951, "product": 0x1666, "serial": "A", "port": "1-2.3"},
    ],
)
@pytest.mark.parametrize("to", ["win11", WIN11])
def test_what_matches_goes_to_the_domain_that_runs(match: dict[str, object], to: str):
    assert moves(host(STICK, KEYS, domains=(running(),)), rules(to, **match)) == ATTACH


@pytest.mark.parametrize(
    "match",
    [
        {"vendor": 0x0952},
        {"vendor": 0x0951, "product": 1},
        {"serial": "B"},
        {"port": "1-2"},
        {"port": "1-2.3", "serial": "B"},
    ],
)
def test_all_that_is_given_must_agree(match: dict[str, object]):
    assert not moves(host(STICK, domains=(running(),)), rules(**match))


def test_the_first_section_that_matches_counts():
    policy = Settings(usb=(*rules("work", port="1-2.3").usb, *rules("win11").usb))
    state = host(STICK, TWIN, domains=(running(), running(WORK)))
    assert moves(state, policy) == [("attach-usb", "usb 1-2.3", "work"), ("attach-usb", "usb 1-4", "win11")]


def test_nothing_goes_to_a_domain_that_does_not_run_or_is_on_its_way():
    assert not moves(host(STICK), rules())
    assert not moves(host(STICK, domains=(running(state="shutdown"),)), rules())
    assert moves(host(STICK, domains=(running(state="paused"),)), rules()) == ATTACH
    starting = host(STICK, domains=(running(),), claims=(claim(domain()),))
    assert not moves(starting, rules())
    assert (
        moves(host(STICK, domains=(running(),), claims=(claim(domain(), prepared=True),)), rules()) == ATTACH
    )


def test_nothing_is_decided_while_libvirt_is_away():
    state = host(STICK, domains=(running(WIN11, held(TWIN)),))
    assert not moves(replace(state, snapshot=replace(state.snapshot, known=False)), rules())


@pytest.mark.parametrize("device", [replace(STICK, bound=False), replace(STICK, bound=False, drivers=())])
def test_a_device_that_is_not_ready_waits(device: UsbDevice):
    assert not moves(host(device, domains=(running(),)), rules())
    assert not reasons(host(device, domains=(running(),)), rules())


@pytest.mark.parametrize(
    "ledger",
    [
        Ledger(outstanding={1: Outstanding(number=1, kind="attach-usb", object="usb 1-2.3")}),
        Ledger(troubles={"usb 1-2.3": Trouble(object="usb 1-2.3", reason="", remedy="", since=0)}),
    ],
)
def test_what_is_untouchable_is_left_alone(ledger: Ledger):
    assert not moves(replace(host(STICK, domains=(running(),)), ledger=ledger), rules())
    assert not moves(replace(host(domains=(running(WIN11, held(STICK)),)), ledger=ledger), rules())


def test_what_the_domain_has_is_not_given_again():
    for source in (held(STICK), held(STICK, ours=False)):
        assert not moves(host(STICK, domains=(running(WIN11, source),)), rules())


def test_a_missing_optional_hostdev_holds_nothing():
    source = UsbSource(vendor=STICK.vendor, product=STICK.product, missing=True)
    assert moves(host(STICK, domains=(running(WIN11, source),)), rules()) == ATTACH
    assert moves(host(STICK, domains=(running(), running(WORK, source))), rules()) == ATTACH


@pytest.mark.parametrize("source", [held(STICK, ours=False), named(STICK), UsbSource(bus=1, number=5)])
def test_what_another_domain_has_is_refused_by_its_name(source: UsbSource):
    state = host(STICK, domains=(running(), running(WORK, source)))
    assert not moves(state, rules())
    [refusal] = decide_usb(state, rules())[1]
    assert (refusal.object, refusal.claimed_by, refusal.claim) == ("usb 1-2.3", "work", None)
    assert "usb 1-2.3 (0951:1666) belongs to domain work" in refusal.reason


def test_what_another_domain_is_about_to_start_with_is_not_taken():
    starting = claim(with_usb(WORK, named(STICK)))
    assert not moves(host(STICK, domains=(running(),), claims=(starting,)), rules())
    # Another address: another device.
    other = claim(with_usb(WORK, UsbSource(bus=1, number=9)))
    assert moves(host(STICK, domains=(running(),), claims=(other,)), rules()) == ATTACH


def test_a_start_with_a_device_that_a_domain_has_is_refused():
    state = host(STICK, domains=(running(WIN11, held(STICK)),), claims=(claim(with_usb(WORK, named(STICK))),))
    [refusal] = decide_usb(state, rules())[1]
    assert (refusal.claim, refusal.claimed_by) == (WORK, "win11")
    assert refusal in decide(state, rules()).refusals
    prepared = host(
        STICK,
        domains=(running(WIN11, held(STICK)),),
        claims=(claim(with_usb(WORK, named(STICK)), prepared=True),),
    )
    assert not reasons(prepared, rules())


def test_a_start_that_could_mean_either_twin_is_libvirts_to_judge():
    state = host(
        STICK, TWIN, domains=(running(WIN11, held(STICK)),), claims=(claim(with_usb(WORK, named(STICK))),)
    )
    assert not [r for r in decide_usb(state, Settings())[1] if r.claim]


def test_a_device_that_a_program_has_open_is_refused_with_the_way_to_find_it():
    state = host(replace(STICK, drivers=("usbfs",)), domains=(running(),))
    assert not moves(state, rules())
    [refusal] = decide_usb(state, rules())[1]
    assert "fuser -v /dev/bus/usb/001/005" in refusal.remedy


@pytest.mark.parametrize(
    ("present", "policy", "why"),
    [
        ((), rules(), "not plugged in"),
        ((replace(STICK, number=7),), rules(), "not plugged in"),
        ((replace(STICK, product=1),), rules(), "not plugged in"),
        ((STICK,), rules("work"), "no rule gives it to win11"),
        ((STICK,), Settings(), "no rule gives it to win11"),
    ],
)
def test_what_is_over_is_detached(present: tuple[UsbDevice, ...], policy: Settings, why: str):
    steps = decide_usb(host(*present, domains=(running(WIN11, held(STICK)),)), policy)[0]
    step = steps[0]
    assert isinstance(step, DetachUsb)
    assert (step.object, step.before, step.uuid) == ("usb 1-2.3", "win11", WIN11)
    assert (step.device.bus, step.device.number) == (1, 5)
    assert why in step.why


def test_out_and_in_again_is_a_detach_and_then_an_attach():
    state = host(replace(STICK, number=7), domains=(running(WIN11, held(STICK)),))
    assert moves(state, rules()) == [("detach-usb", "usb 1-2.3", None), *ATTACH]


def test_a_device_that_changes_domains_is_detached_first():
    state = host(STICK, domains=(running(WIN11, held(STICK)), running(WORK)))
    assert moves(state, rules("work")) == [("detach-usb", "usb 1-2.3", "host")]


def test_what_two_domains_list_is_taken_from_the_one_that_has_it_of_us():
    state = host(STICK, domains=(running(WIN11, held(STICK)), running(WORK, held(STICK, ours=False))))
    [step] = decide_usb(state, rules())[0]
    assert isinstance(step, DetachUsb)
    assert (step.uuid, step.why) == (WIN11, "it belongs to domain work")


@pytest.mark.parametrize("present", [(), (STICK,)])
def test_what_is_not_marked_stays(present: tuple[UsbDevice, ...]):
    assert not moves(host(*present, domains=(running(WIN11, held(STICK, ours=False)),)), Settings())


def test_a_mark_that_came_into_the_definition_is_the_users():
    domains = (running(WIN11, held(STICK), defined=(held(STICK),)),)
    assert not moves(host(domains=domains), Settings())


# --- whatever there is

DEVICES = (STICK, TWIN, KEYS, replace(STICK, number=9), replace(KEYS, port="1-2.3", number=5, bus=1))
SOURCES = st.sampled_from(
    [
        *(held(device, ours=ours) for device in DEVICES for ours in (True, False)),
        *(named(device) for device in (STICK, KEYS)),
        UsbSource(bus=1, number=5),
        replace(named(STICK), missing=True),
    ]
)
STATES = st.sampled_from(("running", "paused", "shutdown"))


@st.composite
def hosts(draw: st.DrawFn) -> Observed:
    present = draw(st.lists(st.sampled_from(DEVICES), max_size=4, unique_by=lambda d: d.port))
    present = [replace(d, bound=draw(st.booleans())) for d in present]
    domains = [
        running(uuid, *draw(st.lists(SOURCES, max_size=3, unique=True)), state=draw(STATES))
        for uuid in draw(st.lists(st.sampled_from((WIN11, WORK)), unique=True))
    ]
    claims = [
        claim(with_usb(uuid, *draw(st.lists(SOURCES, max_size=2))), prepared=draw(st.booleans()))
        for uuid in draw(st.lists(st.sampled_from((WIN11, WORK)), unique=True))
    ]
    return host(*present, domains=tuple(domains), claims=tuple(claims))


@st.composite
def policies(draw: st.DrawFn) -> Settings:
    matches = st.sampled_from(
        [
            UsbMatch(vendor=0x0951),
            UsbMatch(port="1-2.3"),
            UsbMatch(serial="B"),
            UsbMatch(vendor=0x046D, product=0xC31C),
        ]
    )
    return Settings(
        usb=tuple(
            UsbPolicy(name=str(i), match=match, domain=draw(st.sampled_from(("win11", WORK))))
            for i, match in enumerate(draw(st.lists(matches, max_size=3)))
        )
    )


def users(state: Observed) -> Mapping[str, set[str]]:
    """Port to the domains that have it."""
    return {
        port: {d.uuid for d in state.snapshot.running if any(s.names(device) for s in d.live.usb_sources)}
        for port, device in state.usb.items()
    }


def after(state: Observed, step: AttachUsb | DetachUsb) -> Observed:
    """The host when the step was done, or refused by libvirt because somebody has the device."""
    domains: list[Running] = []
    for one in state.snapshot.running:
        sources = one.live.usb_sources
        if one.uuid == step.uuid and isinstance(step, DetachUsb):
            sources = tuple(s for s in sources if s.mark != step.device.mark)
        elif one.uuid == step.uuid:
            sources = (*sources, held(step.device))
        domains.append(replace(one, live=with_usb(one.uuid, *sources)))
    return replace(state, snapshot=replace(state.snapshot, running=tuple(domains)))


@given(hosts(), policies())
def test_only_what_is_marked_is_detached_and_only_what_is_free_attached(state: Observed, policy: Settings):
    marked = {
        (d.uuid, s.mark)
        for d in state.snapshot.running
        for s in d.live.usb_sources
        if s.as_attached() is not None
    }
    for step in decide_usb(state, policy)[0]:
        if isinstance(step, DetachUsb):
            assert (step.uuid, step.device.mark) in marked
        else:
            assert step.device.bound
            assert not users(state)[step.device.port]
            rule = policy.usb_rule(step.device)
            assert rule is not None
            assert rule.domain in (step.uuid, NAMES[step.uuid])


@given(hosts(), policies())
def test_no_plan_makes_a_second_owner_and_each_comes_to_rest(state: Observed, policy: Settings):
    before = {port: len(owners) for port, owners in users(state).items()}
    for _ in range(4):
        steps = decide_usb(state, policy)[0]
        if not steps:
            break
        for step in steps:
            state = after(state, step)
            for port, owners in users(state).items():
                assert len(owners) <= max(1, before[port])
    assert not decide_usb(state, policy)[0]


@given(hosts(), policies())
def test_a_converged_host_gives_each_device_to_its_domain(state: Observed, policy: Settings):
    for _ in range(4):
        for step in decide_usb(state, policy)[0]:
            state = after(state, step)
    starting = {c.uuid for c in state.ledger.claims.values() if not c.prepared}
    refused = {refusal.object for refusal in decide_usb(state, policy)[1]}
    active = {d.uuid: d for d in state.snapshot.running if d.state != "shutdown" and d.uuid not in starting}
    for port, device in state.usb.items():
        rule = policy.usb_rule(device)
        target = next((u for u in active if rule is not None and rule.domain in (u, NAMES[u])), None)
        if target is not None and device.bound and device.label not in refused:
            assert target in users(state)[port]
